import {
  divideUp,
  ImageError,
  type IoOptions,
  isPowerOfTwo,
  readU64BE,
  type Storage,
  viewOf,
  writeU64BE,
} from '@img/core'

/** Where a guest cluster lives. `host`: byte offset, 0 for no room. `packed`: bytes of a compressed one. */
export interface Entry {
  readonly kind: 'unallocated' | 'zero' | 'data' | 'compressed'
  readonly host: number
  readonly packed: number
}

export interface ToySnapshot {
  readonly id: string
  readonly name: string
  readonly size: number
  readonly entries: readonly Entry[]
}

/** All metadata of a toy image. Written as a whole to new room; the header then points there. */
export interface Root {
  readonly clusterSize: number
  size: number
  readonly codec: 'zlib' | 'deflate-raw'
  readonly names: { readonly backing: string; readonly backingFormat: string; readonly data: string }
  entries: Entry[]
  snapshots: ToySnapshot[]
  nextSnapshot: number
}

export const nothing: Entry = { kind: 'unallocated', host: 0, packed: 0 }
export const headerBytes = 512
export const maxSize = 2 ** 32
const kinds = ['unallocated', 'zero', 'data', 'compressed'] as const
const codecs = ['zlib', 'deflate-raw'] as const
const entryBytes = 16
const magic = 'TOYIMG\u0000\u0001'
const rootFixed = 20

/** The header: one sector, so that replacing it is all or nothing. */
export function header(root: Root, rootOffset: number, rootLength: number): Uint8Array {
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  bytes.set(new TextEncoder().encode(magic))
  view.setUint32(8, root.clusterSize)
  view.setUint32(12, codecs.indexOf(root.codec))
  writeU64BE(view, 16, root.size)
  writeU64BE(view, 24, rootOffset)
  view.setUint32(32, rootLength)
  return bytes
}

export function serialiseRoot(root: Root): Uint8Array {
  const names = new TextEncoder().encode(Object.values(root.names).join('\n'))
  const parts = [new Uint8Array(rootFixed), names, serialiseEntries(root.entries)]
  const view = viewOf(parts[0] as Uint8Array)
  view.setUint32(0, names.length)
  view.setUint32(4, root.entries.length)
  view.setUint32(8, root.snapshots.length)
  view.setUint32(12, root.nextSnapshot)
  for (const snapshot of root.snapshots) {
    const name = new TextEncoder().encode(snapshot.name)
    const fixed = new Uint8Array(20)
    const at = viewOf(fixed)
    at.setUint32(0, Number(snapshot.id))
    at.setUint32(4, name.length)
    writeU64BE(at, 8, snapshot.size)
    at.setUint32(16, snapshot.entries.length)
    parts.push(fixed, name, serialiseEntries(snapshot.entries))
  }
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

function serialiseEntries(entries: readonly Entry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * entryBytes)
  const view = viewOf(bytes)
  entries.forEach(({ kind, host, packed }, i) => {
    view.setUint32(i * entryBytes, kinds.indexOf(kind))
    view.setUint32(i * entryBytes + 4, packed)
    writeU64BE(view, i * entryBytes + 8, host)
  })
  return bytes
}

/** Where the root is, as the header tells. */
export interface Found {
  readonly root: Root
  readonly rootOffset: number
  readonly rootLength: number
}

/** Reads all metadata, bounds checked before anything is read or made. */
export async function readToy(storage: Storage, options: IoOptions): Promise<Found> {
  const bad = (message: string): ImageError =>
    new ImageError('IMG_CORRUPT', `${storage.label}: ${message}`, { format: 'toy', source: storage.label })
  if (storage.size < headerBytes) throw new ImageError('IMG_TRUNCATED', `${storage.label}: no whole header`)
  const head = new Uint8Array(headerBytes)
  await storage.read(0, head, options)
  if (!isToy(head)) throw new ImageError('IMG_NOT_THIS_FORMAT', `${storage.label} is no toy image`)
  const view = viewOf(head)
  const clusterSize = view.getUint32(8)
  const codec = codecs[view.getUint32(12)]
  const size = readU64BE(view, 16)
  const rootOffset = readU64BE(view, 24)
  const rootLength = view.getUint32(32)
  if (!isPowerOfTwo(clusterSize) || clusterSize < 512 || clusterSize > 65536) throw bad('bad cluster size')
  if (codec === undefined) throw bad('unknown codec')
  if (size > maxSize) throw bad('too large')
  if (rootLength < rootFixed || rootOffset + rootLength > storage.size) {
    throw new ImageError('IMG_TRUNCATED', `${storage.label} ends before its metadata does`)
  }
  const bytes = new Uint8Array(rootLength)
  await storage.read(rootOffset, bytes, options)
  const reader = new RootReader(bytes, storage.size, bad)
  const names = reader.text(reader.u32(0)).split('\n')
  const entries = reader.entries(reader.u32(4), divideUp(size, clusterSize))
  const snapshots: ToySnapshot[] = []
  for (let left = reader.u32(8); left > 0; left--) snapshots.push(reader.snapshot(clusterSize))
  const [backing = '', backingFormat = '', data = ''] = names
  return {
    root: {
      clusterSize,
      size,
      codec,
      names: { backing, backingFormat, data },
      entries,
      snapshots,
      nextSnapshot: reader.u32(12),
    },
    rootOffset,
    rootLength,
  }
}

export function isToy(head: Uint8Array): boolean {
  return [...magic].every((letter, i) => head[i] === letter.charCodeAt(0))
}

class RootReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #fileSize: number
  readonly #bad: (message: string) => ImageError
  #at = rootFixed

  constructor(bytes: Uint8Array, fileSize: number, bad: (message: string) => ImageError) {
    this.#bytes = bytes
    this.#view = viewOf(bytes)
    this.#fileSize = fileSize
    this.#bad = bad
  }

  u32(at: number): number {
    return this.#view.getUint32(at)
  }

  #take(length: number): number {
    const at = this.#at
    if (at + length > this.#bytes.length) throw this.#bad('the metadata ends too soon')
    this.#at += length
    return at
  }

  text(length: number): string {
    const at = this.#take(length)
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length))
  }

  entries(count: number, expected: number): Entry[] {
    if (count !== expected) throw this.#bad(`${count} entries for ${expected} clusters`)
    const start = this.#take(count * entryBytes)
    return Array.from({ length: count }, (_, i) => {
      const at = start + i * entryBytes
      const kind = kinds[this.u32(at)]
      const packed = this.u32(at + 4)
      const host = readU64BE(this.#view, at + 8)
      if (kind === undefined) throw this.#bad('unknown kind of cluster')
      const held = kind === 'data' || kind === 'compressed'
      if (held && host < headerBytes) throw this.#bad('a cluster inside the header')
      if (kind === 'compressed' && (packed === 0 || host + packed > this.#fileSize)) {
        throw this.#bad('a compressed cluster outside of the file')
      }
      return { kind, packed, host }
    })
  }

  snapshot(clusterSize: number): ToySnapshot {
    const at = this.#take(20)
    const size = readU64BE(this.#view, at + 8)
    const name = this.text(this.u32(at + 4))
    const entries = this.entries(this.u32(at + 16), divideUp(size, clusterSize))
    return { id: String(this.u32(at)), name, size, entries }
  }
}
