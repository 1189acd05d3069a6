import { divideUp, readU64BE, viewOf, writeU64BE } from '../src/bytes.js'
import type { CodecName } from '../src/codecs/codec.js'
import { ImageError } from '../src/errors.js'
import type { Storage } from '../src/storage.js'

/** Header of a toy image. */
export interface ToyHeader {
  clusterSize: number
  size: number
  tableOffset: number
  /** Entries the table has room for. */
  capacity: number
  codec: CodecName
  backing: string | undefined
  backingFormat: string | undefined
}

/** Entry of a toy image's table. */
export interface ToyEntry {
  readonly kind: 'unallocated' | 'zero' | 'data' | 'compressed'
  /** 0: no room. */
  readonly hostOffset: number
  /** Compressed bytes. */
  readonly packed: number
}

const kinds = ['unallocated', 'zero', 'data', 'compressed'] as const
const codecs = ['zlib', 'deflate-raw', 'zstd'] as const
const headerBytes = 512
const entryBytes = 16

function serialiseEntries(entries: readonly ToyEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * entryBytes)
  const view = viewOf(bytes)
  entries.forEach(({ kind, hostOffset, packed }, i) => {
    view.setUint32(i * entryBytes, kinds.indexOf(kind))
    view.setUint32(i * entryBytes + 4, packed)
    writeU64BE(view, i * entryBytes + 8, hostOffset)
  })
  return bytes
}

/** Entry of a cluster of which the image says nothing. */
export const unallocated: ToyEntry = { kind: 'unallocated', hostOffset: 0, packed: 0 }

/** How a toy image stands in its file. */
export const toyFile = {
  headerBytes,
  entryBytes,
  entries: serialiseEntries,

  header(header: ToyHeader): Uint8Array {
    const bytes = new Uint8Array(headerBytes)
    const view = viewOf(bytes)
    const names = new TextEncoder().encode(`${header.backing ?? ''}\n${header.backingFormat ?? ''}`)
    if (names.length > headerBytes - 44) throw new RangeError('the names are too long')
    bytes.set(new TextEncoder().encode('TOYD'))
    view.setUint32(4, header.clusterSize)
    writeU64BE(view, 8, header.size)
    writeU64BE(view, 16, header.tableOffset)
    writeU64BE(view, 24, header.capacity)
    view.setUint32(32, codecs.indexOf(header.codec as 'zlib'))
    view.setUint32(36, names.length)
    bytes.set(names, 44)
    return bytes
  },

  async readHeader(storage: Storage): Promise<ToyHeader> {
    const details = { format: 'toy', source: storage.label, offset: 0 }
    if (storage.size < headerBytes) throw new ImageError('IMG_TRUNCATED', 'the header is cut short', details)
    const bytes = new Uint8Array(headerBytes)
    await storage.read(0, bytes)
    const view = viewOf(bytes)
    if (new TextDecoder().decode(bytes.subarray(0, 4)) !== 'TOYD')
      throw new ImageError('IMG_NOT_THIS_FORMAT', `${storage.label} is no toy image`, details)
    const names = new TextDecoder().decode(bytes.subarray(44, 44 + view.getUint32(36)))
    const [backing, backingFormat] = names.split('\n').map((name) => name || undefined)
    return {
      clusterSize: view.getUint32(4),
      size: readU64BE(view, 8),
      tableOffset: readU64BE(view, 16),
      capacity: readU64BE(view, 24),
      codec: codecs[view.getUint32(32)] ?? 'zlib',
      backing,
      backingFormat,
    }
  },

  async readEntries(storage: Storage, header: ToyHeader): Promise<ToyEntry[]> {
    const bytes = new Uint8Array(divideUp(header.size, header.clusterSize) * entryBytes)
    if (bytes.length > 0) await storage.read(header.tableOffset, bytes)
    const view = viewOf(bytes)
    return Array.from({ length: bytes.length / entryBytes }, (_, i) => ({
      kind: kinds[view.getUint32(i * entryBytes)] ?? 'unallocated',
      packed: view.getUint32(i * entryBytes + 4),
      hostOffset: readU64BE(view, i * entryBytes + 8),
    }))
  },

  async writeEntries(
    storage: Storage,
    header: ToyHeader,
    first: number,
    entries: readonly ToyEntry[],
  ): Promise<void> {
    await storage.write?.(header.tableOffset + first * entryBytes, serialiseEntries(entries))
  },
}
