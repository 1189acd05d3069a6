import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

interface Ran {
  readonly rc: number
  readonly json?: unknown
  readonly stderr?: string
}

/** What `check` did to an image. */
export interface CheckRun {
  readonly rc: number
  readonly json?: Readonly<Record<string, unknown>>
  readonly stderr?: string
}

/** An entry of the collection's manifest. */
export interface Fixture {
  readonly file: string
  readonly format: string
  readonly expect: string
  readonly files: readonly string[]
  readonly content?: {
    readonly sha256?: string
    readonly length?: number
    readonly rc?: number
    readonly stderr?: string
  }
  readonly ranges?: readonly { readonly offset: number; readonly length: number; readonly sha256: string }[]
  readonly info?: Ran
  readonly map?: Ran
  readonly measure?: Readonly<Record<string, Ran>>
  readonly snapshots?: readonly {
    readonly id: string
    readonly name: string
    readonly content: { readonly sha256?: string }
  }[]
  readonly secrets?: unknown
  readonly check?: CheckRun
  readonly repair?: Readonly<Partial<Record<'leaks' | 'all', { readonly run: CheckRun }>>>
}

/** A qemu-img command line and what it did. */
export interface Behaviour {
  readonly part: string
  readonly run: string
  readonly rc: number
  readonly stdout: string
  readonly stderr: string
}

interface Manifest {
  readonly files: Readonly<Record<string, { readonly stored: string; readonly size: number }>>
  readonly images: readonly Fixture[]
}

/** The collection: `IMG_FIXTURES`, or `shared/fixtures/images` beside the repository. */
function findCollection(): string | undefined {
  if (process.env.IMG_FIXTURES !== undefined) return process.env.IMG_FIXTURES
  for (let at = dirname(fileURLToPath(import.meta.url)); dirname(at) !== at; at = dirname(at)) {
    const candidate = join(at, 'shared/fixtures/images')
    if (existsSync(join(candidate, 'manifest.json'))) return candidate
  }
  return undefined
}

const collection = findCollection()
/** True where the collection of images is there. */
export const hasFixtures: boolean = collection !== undefined

function read<T>(name: string, without: T): T {
  return collection === undefined ? without : (JSON.parse(readFileSync(join(collection, name), 'utf8')) as T)
}

const manifest = read<Manifest>('manifest.json', { files: {}, images: [] })

/** Entries of raw and qcow2, encrypted ones left out. */
export const fixtures: readonly Fixture[] = manifest.images.filter(
  ({ format, secrets }) => (format === 'raw' || format === 'qcow2') && secrets === undefined,
)

/** All entries, whatever their format. */
export const allFixtures: readonly Fixture[] = manifest.images

/** The recorded command lines. */
export const behaviours: readonly Behaviour[] = read<{ runs: readonly Behaviour[] }>('behaviours.json', {
  runs: [],
}).runs

const step = 4096

function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b
}

/** Unpacks an entry's files into a directory, zeros as holes. */
export function unpack({ files }: Fixture, directory: string): void {
  for (const name of files) {
    const path = join(directory, name)
    if (existsSync(path)) continue
    const { stored } = manifest.files[name] ?? { stored: name }
    const packed = readFileSync(join(collection ?? '', stored))
    const bytes = isGzip(packed) ? gunzipSync(packed) : packed
    mkdirSync(dirname(path), { recursive: true })
    const fd = openSync(path, 'wx')
    for (let at = 0; at < bytes.length; at += step) {
      const part = bytes.subarray(at, at + step)
      if (part.some((byte) => byte !== 0)) writeSync(fd, part, 0, part.length, at)
    }
    ftruncateSync(fd, bytes.length)
    closeSync(fd)
  }
}
