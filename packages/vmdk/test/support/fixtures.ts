import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

/** A run of `qemu-img check --output=json`. */
export interface CheckRun {
  readonly rc: number
  readonly json?: Record<string, number>
  readonly stderr?: string
}

export interface Fixture {
  readonly file: string
  readonly format: string
  readonly title: string
  readonly expect: string
  readonly files?: readonly string[]
  readonly virtualSize?: number
  readonly truth?: { readonly virtualSize: number; readonly sha256: string }
  readonly content?: { readonly sha256?: string; readonly length?: number; readonly rc?: number }
  readonly ranges?: readonly { readonly offset: number; readonly length: number; readonly sha256: string }[]
  readonly info?: { readonly rc: number; readonly json?: Record<string, unknown> }
  readonly map?: { readonly rc: number; readonly json?: readonly MapEntry[] }
  readonly measure?: Record<string, { readonly rc: number; readonly json?: Record<string, number> }>
  readonly snapshots?: readonly {
    readonly id: string
    readonly name: string
    readonly vmStateSize: number
    readonly content: { readonly sha256?: string; readonly length?: number }
  }[]
  readonly snapshotTruth?: readonly {
    readonly name: string
    readonly sha256: string
    readonly length: number
  }[]
  readonly secrets?: unknown
  readonly check?: CheckRun
  readonly repair?: Readonly<
    Record<
      'leaks' | 'all',
      {
        readonly run: CheckRun
        readonly checkAfter: CheckRun
        readonly contentAfter?: { readonly sha256?: string; readonly length?: number }
      }
    >
  >
}

export interface MapEntry {
  readonly start: number
  readonly length: number
  readonly depth: number
  readonly present: boolean
  readonly zero: boolean
  readonly data: boolean
  readonly offset?: number
}

interface Edit {
  readonly at: number
  readonly hex: string
}

interface Manifest {
  readonly files: Readonly<Record<string, { readonly stored: string; readonly edits?: readonly Edit[] }>>
  readonly images: readonly Fixture[]
}

const here = dirname(fileURLToPath(import.meta.url))
/** Fixtures that every clone has. */
const own = join(here, '../fixtures')

/** The large collection, where there is one: `IMG_FIXTURES`, or `shared/fixtures/images` beside the repository. */
function collection(): string | undefined {
  const named = process.env.IMG_FIXTURES
  if (named !== undefined) return named
  for (let at = here; dirname(at) !== at; at = dirname(at)) {
    const candidate = join(at, 'shared/fixtures/images')
    if (existsSync(join(candidate, 'manifest.json'))) return candidate
  }
  return undefined
}

const large = collection()
export const fixtureFolder: string = large ?? own
export const hasAllFixtures: boolean = large !== undefined

const manifest = JSON.parse(readFileSync(join(fixtureFolder, 'manifest.json'), 'utf8')) as Manifest

/** All entries of format vmdk. */
export const fixtures: readonly Fixture[] = manifest.images.filter(({ format }) => format === 'vmdk')

/** The unpacked bytes of a fixture file. */
export function fixtureBytes(name: string): Uint8Array {
  const entry = manifest.files[name]
  if (entry === undefined) throw new Error(`no fixture file ${name}`)
  const stored = readFileSync(join(fixtureFolder, entry.stored))
  const bytes = new Uint8Array(entry.stored.endsWith('.gz') ? gunzipSync(stored) : stored)
  for (const { at, hex } of entry.edits ?? []) bytes.set(Buffer.from(hex, 'hex'), at)
  return bytes
}

type MapTuple = readonly [number, number, number, boolean, boolean, boolean, number | null]

/** What `qemu-img map --output=json` says of a fixture; undefined where it was not asked. */
export function fixtureMap({ map }: Fixture): readonly MapEntry[] | undefined {
  return map?.json?.map((entry) => {
    if (!Array.isArray(entry)) return entry
    const [start, length, depth, present, zero, data, offset] = entry as unknown as MapTuple
    return { start, length, depth, present, zero, data, ...(offset !== null && { offset }) }
  })
}

export function hasFixture(name: string): boolean {
  return Object.hasOwn(manifest.files, name)
}

/** Images of other people's tools, beside the large collection; undefined where it is not there. */
export function thirdParty():
  | { readonly images: readonly Fixture[]; bytes(name: string): Uint8Array }
  | undefined {
  const folder = large && join(large, '../third-party')
  if (folder === undefined || !existsSync(join(folder, 'manifest.json'))) return undefined
  const { files, images } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest
  return {
    images: images.filter(({ format }) => format === 'vmdk'),
    bytes(name) {
      const entry = files[name]
      if (entry === undefined) throw new Error(`no fixture file ${name}`)
      const stored = readFileSync(join(folder, entry.stored))
      return new Uint8Array(entry.stored.endsWith('.gz') ? gunzipSync(stored) : stored)
    },
  }
}
