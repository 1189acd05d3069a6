import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

/** A run of `qemu-img check --output=json`. */
export interface CheckRun {
  readonly rc: number
  readonly json?: Readonly<Record<string, number>>
  readonly stderr?: string
}

/** What is known of an image: the entry of a `manifest.json`. */
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
  readonly map?: { readonly rc: number; readonly json?: readonly (MapEntry | MapTuple)[] }
  readonly measure?: Record<string, { readonly rc: number; readonly json?: Record<string, number> }>
  /** Dirty ranges, or how reading them through NBD failed. */
  readonly bitmaps?: Readonly<
    Record<string, readonly (readonly [number, number])[] | { readonly rc: number }>
  >
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
  readonly secrets?: Readonly<Record<string, string>>
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

/** A row of `qemu-img map --output=json`. */
export interface MapEntry {
  readonly start: number
  readonly length: number
  readonly depth: number
  readonly present: boolean
  readonly zero: boolean
  readonly data: boolean
  readonly offset?: number
}

type MapTuple = readonly [number, number, number, boolean, boolean, boolean, number | null]

interface Stored {
  readonly stored: string
  readonly edits?: readonly { readonly at: number; readonly hex: string }[]
  /** The file is cut there. */
  readonly size?: number
}

interface Manifest {
  readonly files: Readonly<Record<string, Stored>>
  readonly images: readonly Fixture[]
}

const here = dirname(fileURLToPath(import.meta.url))

/** The large collection, where there is one: `IMG_FIXTURES`, or `shared/fixtures/images` beside the repository. */
function largeCollection(): string | undefined {
  const named = process.env.IMG_FIXTURES
  if (named !== undefined) return named
  for (let at = here; dirname(at) !== at; at = dirname(at)) {
    const candidate = join(at, 'shared/fixtures/images')
    if (existsSync(join(candidate, 'manifest.json'))) return candidate
  }
  return undefined
}

/** Images of one format, with what QEMU says of them. */
export interface FixtureCollection {
  /** All entries of the format. */
  readonly fixtures: readonly Fixture[]
  /** Those that are not of a chain of several formats. */
  readonly aloneFixtures: readonly Fixture[]
  /** Where `manifest.json` is. */
  readonly fixtureFolder: string
  /** True where it is the large collection, not the part that every clone has. */
  readonly hasAllFixtures: boolean
  hasFixture(name: string): boolean
  /** The unpacked bytes of a fixture file. */
  fixtureBytes(name: string): Uint8Array
}

/** The large collection's images of a format; without it those of `own`, the folder that every clone has. */
export function fixturesOf(format: string, own: URL): FixtureCollection {
  const large = largeCollection()
  return { ...fixturesIn(format, large ?? fileURLToPath(own)), hasAllFixtures: large !== undefined }
}

/** Images of other people's tools, beside the large collection; undefined where it is not there. */
export function thirdParty(format: string): FixtureCollection | undefined {
  const large = largeCollection()
  const folder = large && join(large, '../third-party')
  if (folder === undefined || !existsSync(join(folder, 'manifest.json'))) return undefined
  return { ...fixturesIn(format, folder), hasAllFixtures: true }
}

function fixturesIn(format: string, folder: string): Omit<FixtureCollection, 'hasAllFixtures'> {
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest
  const fixtures = manifest.images.filter((entry) => entry.format === format)
  return {
    fixtures,
    aloneFixtures: fixtures.filter(({ file }) => !file.includes('/')),
    fixtureFolder: folder,
    hasFixture: (name) => Object.hasOwn(manifest.files, name),
    fixtureBytes(name) {
      const entry = manifest.files[name]
      if (entry === undefined) throw new Error(`no fixture file ${name}`)
      const stored = readFileSync(join(folder, entry.stored))
      const whole = new Uint8Array(entry.stored.endsWith('.gz') ? gunzipSync(stored) : stored)
      const bytes = whole.slice(0, entry.size ?? whole.length)
      for (const { at, hex } of entry.edits ?? []) bytes.set(Buffer.from(hex, 'hex'), at)
      return bytes
    },
  }
}

/** What `qemu-img map --output=json` says of a fixture; undefined where it was not asked. */
export function fixtureMap({ map }: Fixture): readonly MapEntry[] | undefined {
  return map?.json?.map((entry) => {
    if ('start' in entry) return entry
    const [start, length, depth, present, zero, data, offset] = entry
    return { start, length, depth, present, zero, data, ...(offset !== null && { offset }) }
  })
}
