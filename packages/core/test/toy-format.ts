import { alignUp, divideUp, type MaybePromise } from '../src/bytes.js'
import type { Allocation, ClusterMap, ClusterRun } from '../src/cluster.js'
import type { CodecName } from '../src/codecs/codec.js'
import { ImageError } from '../src/errors.js'
import { type Driver, defineFormat, type Format, type OpenContext, type Reference } from '../src/format.js'
import type { Storage, WritableStorage, ZeroOptions } from '../src/storage.js'
import { type ToyEntry, type ToyHeader, toyFile, unallocated } from './toy-file.js'
import { toyCreateOptions, toyMeasure, toyStream, toyWriter } from './toy-writer.js'

/** Most clusters in one answer of the map: more runs for core to put together. */
const longestRun = 5

/** Content of room that was allocated and not written yet. */
export const garbage = 0xee

class ToyMap implements ClusterMap {
  readonly header: ToyHeader
  readonly entries: ToyEntry[]
  readonly #storage: Storage
  readonly #async: boolean
  /** Clusters given back. They are used again as they are, so that room not filled shows. */
  readonly #free: number[] = []

  constructor(storage: Storage, header: ToyHeader, entries: ToyEntry[], slow: boolean) {
    this.#storage = storage
    this.header = header
    this.entries = entries
    this.#async = slow
  }

  get clusterSize(): number {
    return this.header.clusterSize
  }

  lookup(offset: number, maxLength: number): MaybePromise<ClusterRun> {
    const run = this.#lookup(offset, maxLength)
    return this.#async && Math.floor(offset / this.clusterSize) % 3 !== 0 ? Promise.resolve(run) : run
  }

  #lookup(offset: number, maxLength: number): ClusterRun {
    const { clusterSize } = this
    const index = Math.floor(offset / clusterSize)
    const within = offset % clusterSize
    const entry = this.#entry(index)
    const storage = this.#storage
    if (entry.kind === 'compressed') {
      return {
        kind: 'compressed',
        length: Math.min(maxLength, clusterSize - within),
        storage,
        hostOffset: entry.hostOffset,
        hostLength: entry.packed,
        codec: this.header.codec,
        unitLength: clusterSize,
        unitOffset: within,
      }
    }
    const length = Math.min(maxLength, this.#contiguous(index) * clusterSize - within)
    const hostOffset = entry.hostOffset + within
    if (entry.kind === 'data') return { kind: 'data', length, storage, hostOffset }
    if (entry.kind === 'unallocated') return { kind: 'unallocated', length }
    return entry.hostOffset === 0 ? { kind: 'zero', length } : { kind: 'zero', length, storage, hostOffset }
  }

  /** How many clusters from `index` on are of one kind and in one piece. */
  #contiguous(index: number): number {
    const first = this.#entry(index)
    let count = 1
    for (; count < longestRun; count++) {
      const next = this.entries[index + count]
      const host = first.hostOffset === 0 ? 0 : first.hostOffset + count * this.clusterSize
      if (next === undefined || next.kind !== first.kind || next.hostOffset !== host) break
    }
    return count
  }

  allocate(offset: number, length: number): MaybePromise<Allocation> {
    const { clusterSize } = this
    const storage = this.#storage
    const index = Math.floor(offset / clusterSize)
    const within = offset % clusterSize
    const entry = this.#entry(index)
    if (entry.kind === 'data') {
      const room = Math.min(length, this.#contiguous(index) * clusterSize - within)
      return { storage, hostOffset: entry.hostOffset + within, length: room }
    }
    let count = 1
    const wanted = Math.min(3, divideUp(within + length, clusterSize))
    if (entry.hostOffset === 0 || entry.kind === 'compressed') {
      while (count < wanted && this.entries[index + count]?.kind === 'unallocated') count++
    }
    return this.#newRoom(count, entry).then((host) => ({
      storage,
      hostOffset: host + within,
      length: Math.min(length, count * clusterSize - within),
      fill: clusterSize,
      publish: () =>
        this.set(
          index,
          Array.from({ length: count }, (_, i) => ({
            kind: 'data',
            hostOffset: host + i * clusterSize,
            packed: 0,
          })),
        ),
    }))
  }

  async #newRoom(count: number, entry: ToyEntry): Promise<number> {
    if (entry.kind === 'zero' && entry.hostOffset !== 0) return entry.hostOffset
    const free = count === 1 ? this.#free.pop() : undefined
    if (free !== undefined) return free
    const host = alignUp(this.#storage.size, this.clusterSize)
    await this.#storage.write?.(host, new Uint8Array(count * this.clusterSize).fill(garbage))
    return host
  }

  readonly zeroesExplicitly = true

  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    await this.#giveBack(offset, length, 'zero', options.unmap === false)
  }

  async discard(offset: number, length: number): Promise<void> {
    const kind = this.header.backing === undefined ? 'unallocated' : 'zero'
    await this.#giveBack(offset, length, kind, false)
  }

  async #giveBack(
    offset: number,
    length: number,
    kind: 'zero' | 'unallocated',
    keep: boolean,
  ): Promise<void> {
    const { clusterSize } = this
    if (offset % clusterSize !== 0) throw new TypeError(`${offset} is not the start of a cluster`)
    if ((offset + length) % clusterSize !== 0 && offset + length !== this.header.size)
      throw new TypeError(`${offset + length} is not the end of a cluster`)
    const first = offset / clusterSize
    const changed: ToyEntry[] = []
    for (let index = first; index < divideUp(offset + length, clusterSize); index++) {
      const entry = this.#entry(index)
      const reserved = entry.kind === 'data' || (entry.kind === 'zero' && entry.hostOffset !== 0)
      if (reserved && !keep) this.#free.push(entry.hostOffset)
      changed.push({ kind, hostOffset: reserved && keep ? entry.hostOffset : 0, packed: 0 })
    }
    await this.set(first, changed)
  }

  async resize(size: number): Promise<void> {
    const count = divideUp(size, this.clusterSize)
    const kept = Math.min(count, this.entries.length)
    await this.#giveBackTable(kept)
    while (this.entries.length < count) this.entries.push(unallocated)
    if (count > this.header.capacity) {
      this.header.capacity = count * 2
      this.header.tableOffset = alignUp(this.#storage.size, this.clusterSize)
      const room = Array.from({ length: count * 2 }, (_, i) => this.entries[i] ?? unallocated)
      await toyFile.writeEntries(this.#storage, this.header, 0, room)
    }
    this.header.size = size
    await this.#storage.write?.(0, toyFile.header(this.header))
  }

  async #giveBackTable(kept: number): Promise<void> {
    const gone = this.entries.splice(kept)
    for (const { kind, hostOffset } of gone) if (kind === 'data') this.#free.push(hostOffset)
    if (gone.length === 0) return
    await toyFile.writeEntries(
      this.#storage,
      this.header,
      kept,
      gone.map(() => unallocated),
    )
  }

  /** Names another backing file, or none. */
  async setBacking(backing: Reference | undefined): Promise<void> {
    this.header.backing = backing?.name
    this.header.backingFormat = backing?.format
    await this.#storage.write?.(0, toyFile.header(this.header))
  }

  /** Gives up all clusters. */
  async empty(): Promise<void> {
    await this.#giveBack(0, this.header.size, 'unallocated', false)
  }

  /** Compressed clusters go to the end of the file. */
  readonly compression = { codec: 'zlib' } as const

  allocateCompressed(offset: number, packed: number): Allocation {
    const hostOffset = this.#storage.size
    const index = offset / this.clusterSize
    return {
      storage: this.#storage,
      hostOffset,
      length: Math.min(this.clusterSize, this.header.size - offset),
      publish: () => this.set(index, [{ kind: 'compressed', hostOffset, packed }]),
    }
  }

  async set(first: number, changed: readonly ToyEntry[]): Promise<void> {
    this.entries.splice(first, changed.length, ...changed)
    await toyFile.writeEntries(this.#storage, this.header, first, changed)
  }

  #entry(index: number): ToyEntry {
    const entry = this.entries[index]
    if (entry === undefined) throw new RangeError(`cluster ${index} is past the end`)
    return entry
  }
}

async function openToy(storage: Storage, context: OpenContext): Promise<Driver> {
  const header = await toyFile.readHeader(storage)
  if (context.writable && storage.write === undefined)
    throw new ImageError('IMG_READ_ONLY', `${storage.label} is read-only`, { source: storage.label })
  const entries = await toyFile.readEntries(storage, header)
  const map = new ToyMap(storage, header, entries, context.options.async === true)
  return {
    get size() {
      return header.size
    },
    map,
    get backing(): Reference | undefined {
      if (header.backing === undefined) return undefined
      return { kind: 'backing', name: header.backing, format: header.backingFormat }
    },
    setBacking: (backing) => map.setBacking(backing),
    empty: () => map.empty(),
    info: () => ({ clusterSize: header.clusterSize, specific: { codec: header.codec } }),
    resize: (size) => map.resize(size),
  }
}

/**
 * A small cluster format in the open: a header, one table of 16-byte entries, clusters. It gives out new room full of
 * garbage and checks what core asks of it, so that every rule of the contracts shows when broken.
 */
export const toy: Format = defineFormat({
  apiVersion: 1,
  name: 'toy',
  title: 'Toy format of the tests',
  extensions: ['.toy'],
  magic: [{ offset: 0, hex: '544f5944' }],
  probe: { head: 4, matches: ({ head }) => String.fromCharCode(...head) === 'TOYD' },
  openOptions: { async: { kind: 'bool', help: 'Answer some look-ups later', default: false } },
  open: openToy,
  createOptions: toyCreateOptions,
  create: toyWriter,
  stream: toyStream,
  measure: toyMeasure,
})

/** What one cluster of a toy image is to be. */
export type ToyCluster = 'unallocated' | 'zero' | 'reserved' | Uint8Array | { readonly packed: Uint8Array }

/** Builds a toy image cluster by cluster, each at its own place in the file. */
export async function buildToy(
  target: WritableStorage,
  clusters: readonly ToyCluster[],
  options: {
    readonly clusterSize: number
    readonly size?: number
    readonly backing?: string
    readonly codec?: CodecName
  },
): Promise<void> {
  const { clusterSize, size = clusters.length * clusterSize, backing, codec = 'zlib' } = options
  const header: ToyHeader = {
    clusterSize,
    size,
    tableOffset: toyFile.headerBytes,
    capacity: clusters.length,
    codec,
    backing,
    backingFormat: undefined,
  }
  let next = alignUp(toyFile.headerBytes + clusters.length * toyFile.entryBytes, clusterSize)
  const entries: ToyEntry[] = []
  for (const cluster of clusters) {
    if (cluster === 'unallocated' || cluster === 'zero') {
      entries.push({ ...unallocated, kind: cluster })
      continue
    }
    const bytes = cluster === 'reserved' ? new Uint8Array(clusterSize).fill(garbage) : cluster
    const content = bytes instanceof Uint8Array ? bytes : bytes.packed
    const kind = cluster === 'reserved' ? 'zero' : bytes === content ? 'data' : 'compressed'
    entries.push({ kind, hostOffset: next, packed: kind === 'compressed' ? content.length : 0 })
    await target.write(next, content)
    next = alignUp(next + content.length, clusterSize)
  }
  await target.write(0, toyFile.header(header))
  await toyFile.writeEntries(target, header, 0, entries)
}
