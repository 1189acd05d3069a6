import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

export interface Fixture {
  readonly file: string
  readonly format: string
  readonly title: string
  readonly expect: string
  readonly virtualSize?: number
  readonly content?: { readonly sha256?: string; readonly length?: number; readonly rc?: number }
  readonly truth?: { readonly sha256: string; readonly virtualSize: number }
  readonly ranges?: readonly { readonly offset: number; readonly length: number; readonly sha256: string }[]
  readonly secrets?: Readonly<Record<string, string>>
  readonly info?: { readonly rc: number; readonly json?: Record<string, unknown> }
  readonly check?: {
    readonly rc: number
    readonly json?: Readonly<Record<string, number>>
    readonly stderr?: string
  }
  readonly map?: { readonly json?: readonly (MapEntry | MapTuple)[] }
}

export interface MapEntry {
  readonly start: number
  readonly length: number
  readonly present: boolean
  readonly zero: boolean
  readonly data: boolean
  readonly offset?: number | undefined
}
type MapTuple = readonly [number, number, number, boolean, boolean, boolean, number | null]

interface Stored {
  readonly stored: string
  readonly edits?: readonly { readonly at: number; readonly hex: string }[]
  /** The file is cut there. */
  readonly size?: number
}

const here = dirname(fileURLToPath(import.meta.url))

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

const folder = collection() ?? join(here, '../fixtures')
const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as {
  readonly files: Readonly<Record<string, Stored>>
  readonly images: readonly Fixture[]
}

/** All entries of a format that are not of a chain of several formats. */
export function fixturesOf(format: string): readonly Fixture[] {
  return manifest.images.filter((entry) => entry.format === format && !entry.file.includes('/'))
}

export function hasFixture(name: string): boolean {
  return Object.hasOwn(manifest.files, name)
}

/** The unpacked bytes of a fixture file. */
export function fixtureBytes(name: string): Uint8Array {
  const entry = manifest.files[name]
  if (entry === undefined) throw new Error(`no fixture file ${name}`)
  const stored = readFileSync(join(folder, entry.stored))
  const whole = new Uint8Array(entry.stored.endsWith('.gz') ? gunzipSync(stored) : stored)
  const bytes = whole.slice(0, entry.size ?? whole.length)
  for (const { at, hex } of entry.edits ?? []) bytes.set(Buffer.from(hex, 'hex'), at)
  return bytes
}

/** What `qemu-img map --output=json` says of a fixture. */
export function fixtureMap({ map }: Fixture): readonly MapEntry[] | undefined {
  return map?.json?.map((entry) => {
    if (!Array.isArray(entry)) return entry as MapEntry
    const [start, length, , present, zero, data, offset] = entry as unknown as MapTuple
    return { start, length, present, zero, data, offset: offset ?? undefined }
  })
}
