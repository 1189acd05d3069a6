import type { Allocation, ClusterZeroOptions, CompressionSpec, IoOptions } from '@img/core'
import { ALL_SUBCLUSTERS, COPIED_HIGH, TWO32 } from './entries.js'
import { CompressionType } from './header.js'
import { SUBCLUSTERS } from './limits.js'
import { Qcow2Map } from './mapping.js'
import type { L1Table } from './tables.js'
import { clearRange } from './write-clear.js'
import { allocateCompressed } from './write-compressed.js'
import type { WritableImage } from './write-image.js'
import { type EntryPlace, L2Editor } from './write-l2.js'

/**
 * What has to be done before guest bytes of a cluster can be written:
 * `overwrite`: nothing, they live there. `refill`: there is room that is this disk's alone, with nothing in it.
 * `new`: room is needed; what is not written stays zero or unallocated where subclusters can tell so.
 * `copy`: room is needed, and what the old holds has to go with it.
 */
type Need = 'overwrite' | 'refill' | 'new' | 'copy'

/** Room for guest clusters in sequence. */
interface Room {
  readonly cluster: number
  readonly count: number
  readonly need: Need
  /** Byte offset of the first host cluster. */
  readonly host: number
}

/** The map of an image opened for writing. Specification: Cluster mapping, Extended L2 Entries. */
export class WritableMap extends Qcow2Map {
  /** Absent in version 2 with a backing file: core writes zeros there. */
  zero?: (offset: number, length: number, options?: ClusterZeroOptions) => Promise<void>
  readonly #target: WritableImage
  #l2: L2Editor

  constructor(target: WritableImage, l1: L1Table) {
    super(target.image, l1)
    this.#target = target
    this.#l2 = new L2Editor(target)
    this.headerChanged()
  }

  /** To be called where the header says something else of clusters: another version, a backing file or none. */
  override headerChanged(): void {
    super.headerChanged()
    const target = this.#target
    const { header, hasBacking } = target
    this.#l2 = new L2Editor(target)
    delete this.zero
    // Version 2 cannot say zero where a backing file would show.
    if (header.version === 2 && hasBacking) return
    const content = header.version === 2 ? 'unallocated' : 'zero'
    this.zero = async (offset, length, options) => {
      await target.bitmaps.changing(offset, length, options)
      const keep = options?.unmap === false ? 'all' : 'zero'
      const range = { offset, length, content, keep, explicit: options?.explicit } as const
      return clearRange(target, this.#l2, range, options)
    }
  }

  get zeroesExplicitly(): boolean {
    return this.#target.header.version === 3
  }

  /** The editor of L2 tables. */
  get l2(): L2Editor {
    return this.#l2
  }

  async allocate(offset: number, length: number, options?: IoOptions): Promise<Allocation> {
    const { bitmaps } = this.#target
    try {
      if (!bitmaps.isAwake) await bitmaps.wake(options)
      const room = await this.#allocate(offset, length, options)
      if (bitmaps.isKeeping) await bitmaps.touch(offset, room.length, options)
      return room
    } catch (error) {
      await this.#target.denounce()
      throw error
    }
  }

  async #allocate(offset: number, length: number, options?: IoOptions): Promise<Allocation> {
    const target = this.#target
    await target.begin()
    const { clusterSize } = this
    const cluster = Math.floor(offset / clusterSize)
    const inside = offset - cluster * clusterSize
    const place = await this.#l2.place(cluster, options)
    const most = Math.min(place.left, Math.ceil((inside + length) / clusterSize))
    const { need, count, host } = this.#run(place, cluster, most, Math.floor(inside / this.#subcluster))
    if (need === 'overwrite' || need === 'refill') {
      if (!target.external) target.guard.assertData(host, count * clusterSize)
      const room = { cluster, count, need, host }
      return this.#words === 4 && count === 1
        ? this.#inSubclusters(place, room, inside, length)
        : this.#answer(room, inside, Math.min(length, count * clusterSize - inside))
    }
    if (target.external) {
      const room = { cluster, count, need, host: cluster * clusterSize }
      return this.#answer(room, inside, Math.min(length, count * clusterSize - inside))
    }
    const span = await target.allocator.take(count)
    target.expect(span)
    const room = { cluster, count: span.count, need, host: span.first * clusterSize }
    return this.#answer(room, inside, Math.min(length, span.count * clusterSize - inside))
  }

  /** How clusters are compressed; those of an external data file are not, and no encrypted ones. */
  get compression(): CompressionSpec | undefined {
    if (this.#target.external || this.#target.image.encryption) return undefined
    return this.#target.header.compressionType === CompressionType.zstd
      ? { codec: 'zstd' }
      : { codec: 'deflate-raw', windowBits: 12 }
  }

  async allocateCompressed(offset: number, hostLength: number, options?: IoOptions): Promise<Allocation> {
    await this.#target.bitmaps.changing(
      offset,
      Math.min(this.clusterSize, this.#target.header.size - offset),
      options,
    )
    return allocateCompressed(this.#target, this.#l2, offset, hostLength, options)
  }

  /** Version 3 says zero for what is discarded, so that it never shows what a backing file holds. */
  async discard(offset: number, length: number, options?: IoOptions): Promise<void> {
    await this.#target.bitmaps.changing(offset, length, options)
    const content = this.#target.header.version === 2 ? 'unallocated' : 'zero'
    return clearRange(this.#target, this.#l2, { offset, length, content, keep: 'none' }, options)
  }

  flush(options?: IoOptions): Promise<void> {
    return this.#target.commit(options)
  }

  get #words(): number {
    return this.#l2.words
  }

  get #subcluster(): number {
    return this.#words === 4 ? this.clusterSize / SUBCLUSTERS : this.clusterSize
  }

  /** What the first entry needs, and how many go on with the same. `subcluster`: where the write begins in the first. */
  #run(place: EntryPlace, cluster: number, most: number, subcluster: number): Omit<Room, 'cluster'> {
    const { clusterSize } = this
    this.#l2.decode(place, 0, cluster)
    const host = this.#l2.entry.host
    const need = this.#need(place, 0)
    // Within a cluster that is partly filled, subclusters decide.
    if (
      need === 'overwrite' &&
      this.#words === 4 &&
      this.#l2.entry.sameSubclusters('data', 0) < SUBCLUSTERS
    ) {
      return { need: this.#l2.entry.subclusterKind(subcluster) === 'data' ? need : 'refill', count: 1, host }
    }
    let count = 1
    while (count < most) {
      // What is damaged ends the run: it is an error of the write that reaches it.
      if (this.#l2.entry.decode(place.words, place.at + count * this.#words) !== undefined) break
      if (this.#need(place, count) !== need) break
      const { entry } = this.#l2
      if (need === 'overwrite' || need === 'refill') {
        if (entry.host !== host + count * clusterSize) break
        if (need === 'overwrite' && this.#words === 4 && entry.allocated >>> 0 !== ALL_SUBCLUSTERS) break
      }
      count++
    }
    return { need, count, host }
  }

  /** The need of an entry just decoded. */
  #need(place: EntryPlace, index: number): Need {
    const { entry } = this.#l2
    const { external } = this.#target
    if (entry.kind === 'compressed') return 'copy'
    const copied = ((place.words[place.at + index * this.#words] as number) & COPIED_HIGH) !== 0
    const own = entry.host >= 0 && (copied || external)
    if (entry.kind === 'subclusters') {
      if (own) return entry.allocated === 0 ? 'refill' : 'overwrite'
      return entry.allocated === 0 ? 'new' : 'copy'
    }
    if (own) return entry.kind === 'data' ? 'overwrite' : 'refill'
    return entry.kind === 'data' ? 'copy' : 'new'
  }

  /** A cluster of this disk's own whose subclusters differ: as many as are of the kind of the first. */
  #inSubclusters(place: EntryPlace, room: Room, inside: number, length: number): Allocation {
    this.#l2.decode(place, 0, room.cluster)
    const { entry } = this.#l2
    const size = this.#subcluster
    const first = Math.floor(inside / size)
    const isData = entry.subclusterKind(first) === 'data'
    let end = first + 1
    while (end < SUBCLUSTERS && (entry.subclusterKind(end) === 'data') === isData) end++
    return this.#answer(
      { ...room, need: isData ? 'overwrite' : 'refill' },
      inside,
      Math.min(length, end * size - inside),
    )
  }

  #answer(room: Room, inside: number, length: number): Allocation {
    const { need, host } = room
    const { data, encryption } = this.#target.image
    const hostOffset = host + inside
    const guestOffset = room.cluster * this.clusterSize + inside
    const storage = encryption === undefined ? data : encryption.at(guestOffset, hostOffset)
    if (need === 'overwrite') return { storage, hostOffset, length }
    const publish = (): Promise<void> => this.#publish(room, inside, length)
    // What is not mapped in a raw data file holds zeros there.
    if (this.#target.rawData && !this.#target.hasBacking) return { storage, hostOffset, length, publish }
    const fill = need === 'copy' ? this.clusterSize : this.#subcluster
    return { storage, hostOffset, length, fill, publish }
  }

  async #publish(room: Room, inside: number, length: number): Promise<void> {
    const target = this.#target
    const { clusterSize } = this
    const { cluster, need, host } = room
    const count = Math.ceil((inside + length) / clusterSize)
    const place = await this.#l2.place(cluster)
    if (need !== 'refill' && !target.external) {
      const old: { offset: number; length: number }[] = []
      for (let i = 0; i < count; i++) {
        const entry = this.#l2.decode(place, i, cluster)
        if (entry.host < 0) continue
        old.push({ offset: entry.host, length: entry.kind === 'compressed' ? entry.length : clusterSize })
      }
      await target.allocator.free(old)
    }
    for (let i = 0; i < count; i++) {
      const from = i === 0 ? inside : 0
      const to = Math.min(clusterSize, inside + length - i * clusterSize)
      this.#set(place.words, place.at + i * this.#words, host + i * clusterSize, need, from, to)
    }
    this.#l2.touch(place, count)
    target.mapped()
  }

  /** Maps bytes [from, to) of a guest cluster to a host cluster. */
  #set(words: Uint32Array, at: number, host: number, need: Need, from: number, to: number): void {
    words[at] = Math.floor(host / TWO32) + COPIED_HIGH
    words[at + 1] = host % TWO32
    if (this.#words === 2) return
    if (need === 'copy') {
      words[at + 2] = 0
      words[at + 3] = ALL_SUBCLUSTERS
      return
    }
    const first = Math.floor(from / this.#subcluster)
    const count = Math.ceil(to / this.#subcluster) - first
    const mask = count === SUBCLUSTERS ? ALL_SUBCLUSTERS : ((2 ** count - 1) << first) >>> 0
    words[at + 2] = ((words[at + 2] as number) & ~mask) >>> 0
    words[at + 3] = ((words[at + 3] as number) | mask) >>> 0
  }
}
