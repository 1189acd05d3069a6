import {
  alignDown,
  alignUp,
  type CompressionSpec,
  type CreateContext,
  divideUp,
  fillZeros,
  ImageError,
  type ImageWriter,
  type IoOptions,
  isPromise,
  type MaybePromise,
  type Placement,
  viewOf,
  type WritableStorage,
  writeU64BE,
} from '@img/core'
import type { NewEncryption } from './encrypt-create.js'
import { ExtensionType, makeEncryptionExtension } from './extensions.js'
import { type Header, l1Entries, serialiseHeader } from './header.js'
import { type EntryKind, L1Entries, L2Tables } from './l2-tables.js'
import { HostLayout } from './layout.js'
import { MAX_REFCOUNT_TABLE_BYTES, SECTOR } from './limits.js'
import { fullyAllocated } from './measure.js'
import { compressionSpec, finalHeader, type NewImage, storedSize } from './new-image.js'
import { refcountSize } from './refcounts.js'

/**
 * A new image while it is filled. Data is placed front to back without gaps. L2 tables are written between it as soon as the
 * guest range that they map is passed, refcount blocks as soon as they are complete, so that memory is bounded; then the L1
 * table, the refcount table, and the header last of all: before it, the file is no image.
 */
export class Qcow2Writer implements ImageWriter {
  readonly clusterSize: number
  readonly compression?: CompressionSpec
  readonly placeCompressed?: (offset: number, hostLength: number) => MaybePromise<Placement>
  readonly #image: NewImage
  readonly #target: WritableStorage
  /** The external data file, if any. */
  readonly #dataFile: WritableStorage | undefined
  /** Where guest data goes. */
  readonly #data: WritableStorage
  readonly #context: CreateContext
  readonly #layout: HostLayout
  readonly #l2: L2Tables
  readonly #l1 = new L1Entries()
  /** Byte offsets of the refcount blocks written so far. */
  readonly #refcountBlocks: number[] = []
  /** Bytes that target and data stood at before: there, what is not written may be garbage (a device). */
  readonly #oldBytes: number
  #encryption: NewEncryption | undefined
  #size: number | undefined
  /** Room was reserved for everything at the start. */
  #reserved = false
  /** Guest clusters below are dealt with. */
  #cursor = 0
  /** Writes that could not be done at once. */
  #pending: Promise<void> | undefined
  #closed = false

  constructor(
    image: NewImage,
    target: WritableStorage,
    dataFile: WritableStorage | undefined,
    size: number | undefined,
    compress: boolean,
    context: CreateContext,
  ) {
    this.clusterSize = image.clusterSize
    this.#image = image
    this.#target = target
    this.#dataFile = dataFile
    this.#data = dataFile ?? target
    this.#oldBytes = this.#data.size
    this.#size = size
    this.#context = context
    this.#layout = new HostLayout(image.clusterBits, image.refcountOrder)
    this.#l2 = new L2Tables(image.clusterBits, image.extendedL2)
    this.#layout.clusters(1)
    if (!compress) return
    this.compression = compressionSpec(image)
    this.placeCompressed = (offset, hostLength) => this.#placeCompressed(offset, hostLength)
  }

  /** Everything placed from here on is encrypted. The header with the keys comes right behind the image's. */
  encryptBy(encryption: NewEncryption): void {
    this.#encryption = encryption
    if (encryption.stored) this.#layout.clusters(divideUp(encryption.stored.length, this.clusterSize))
  }

  /** Makes sure that what stood in the target before is no image any more, and reserves room where that was asked for. */
  async start(): Promise<void> {
    const old = Math.min(this.#target.size, this.clusterSize)
    if (old > 0) await this.#fillZeros(this.#target, 0, old)
    const { preallocation } = this.#image
    if (this.#size === undefined || (preallocation !== 'falloc' && preallocation !== 'full')) return
    if (this.#data.preallocate === undefined || this.#oldBytes > 0) return
    const keys = this.#encryption?.stored?.length ?? 0
    const bytes = this.#dataFile ? this.#size : keys + fullyAllocated(this.#size, this.#image)
    await this.#data.preallocate(0, bytes, preallocation, this.#context)
    this.#reserved = true
  }

  place(offset: number, length: number): MaybePromise<Placement> {
    return this.#enter(offset, length, (cluster) => {
      const { groupClusters } = this.#l2
      const count = Math.min(divideUp(length, this.clusterSize), groupClusters - (cluster % groupClusters))
      const hostOffset = this.#allocate(cluster, count)
      this.#l2.set(cluster, count, 'data', hostOffset)
      this.#cursor = cluster + count
      const placed = Math.min(length, count * this.clusterSize)
      if (this.#encryption) return this.#placeEncrypted(this.#encryption, offset, hostOffset, placed)
      // The rest of the last cluster would show if the disk were made larger.
      const rest = count * this.clusterSize - placed
      if (rest > 0 && hostOffset < this.#oldBytes) {
        this.#later(() => this.#fillZeros(this.#data, hostOffset + placed, rest))
      }
      return { storage: this.#data, hostOffset, length: placed, fresh: hostOffset >= this.#oldBytes }
    })
  }

  #placeEncrypted(encryption: NewEncryption, offset: number, hostOffset: number, length: number): Placement {
    const storage = encryption.at(offset, hostOffset) as WritableStorage
    // The rest of the last sector belongs to the disk, the rest of the cluster will if the disk is made larger: both have
    // to be zero once decrypted.
    const from = alignDown(length, SECTOR)
    const rest = alignUp(length, this.clusterSize) - from
    if (rest > 0) this.#later(() => fillZeros(storage, hostOffset + from, rest, this.#context))
    return { storage, hostOffset, length }
  }

  #placeCompressed(offset: number, hostLength: number): MaybePromise<Placement> {
    const length = Math.min(this.clusterSize, (this.#size ?? Number.MAX_SAFE_INTEGER) - offset)
    return this.#enter(offset, length, (cluster) => {
      const hostOffset = this.#layout.bytes(hostLength)
      this.#l2.setCompressed(cluster, hostOffset, hostLength)
      this.#cursor = cluster + 1
      return { storage: this.#target, hostOffset, length }
    })
  }

  zero(offset: number, length: number): MaybePromise<void> {
    const { backingFile, preallocation, version } = this.#image
    // What is not placed reads as zeros anyway where there is no backing file.
    if (backingFile === undefined || length === 0) return
    return this.#enter(offset, length, (first) => {
      const end = first + divideUp(length, this.clusterSize)
      // Version 2 has no zero clusters: zeros of the host stand for them.
      const kind: EntryKind = version === 2 ? 'data' : 'zero'
      return this.#mapRange(first, end, kind, version === 2 || preallocation !== 'off')
    })
  }

  async finish(options: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    if (this.#closed) {
      const { label } = this.#target
      throw new ImageError('IMG_CLOSED', `${label}: the new image was given up`, {
        format: 'qcow2',
        source: label,
      })
    }
    const given = this.#size ?? options.size
    if (given === undefined) throw new TypeError('the size of the new image is not known')
    const size = storedSize(given, this.#image)
    const clusters = divideUp(size, this.clusterSize)
    if (this.#cursor > clusters)
      throw new RangeError(`data was placed past the end of the disk, ${given} bytes`)
    await this.#skipTo(clusters)
    this.#writeGroup()
    await this.#settle(options)
    await this.#writeKeys(options)
    const l1TableOffset = await this.#writeL1(l1Entries(size, this.#image.header))
    await this.#settle(options)
    const refcounts = await this.#writeRefcounts()
    await this.#settle(options)
    await this.#target.truncate(this.#layout.next * this.clusterSize, options)
    await this.#dataFile?.truncate(size, options)
    const header = serialiseHeader(
      this.#withKeys(finalHeader(this.#image, { size, l1TableOffset, ...refcounts })),
    )
    await this.#target.write(0, header, options)
  }

  /** Writes the LUKS header, and zeros to the room of the key slots that are not used. */
  async #writeKeys(options: IoOptions): Promise<void> {
    const stored = this.#encryption?.stored
    if (stored === undefined) return
    const at = this.clusterSize
    await this.#target.write(at, stored.bytes, options)
    const end = alignUp(stored.length, this.clusterSize)
    await this.#fillZeros(this.#target, at + stored.bytes.length, end - stored.bytes.length)
  }

  #withKeys(header: Header): Header {
    const stored = this.#encryption?.stored
    if (stored === undefined) return header
    const pointer = makeEncryptionExtension({ offset: this.clusterSize, length: stored.length })
    const extensions = header.extensions.map((extension) =>
      extension.type === ExtensionType.encryption ? pointer : extension,
    )
    return { ...header, extensions }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#pending?.catch(() => undefined)
    await this.#dataFile?.close()
  }

  /**
   * Checks a range, deals with everything before it, hands its first cluster to `action`, and waits for what is
   * pending then.
   */
  #enter<T>(offset: number, length: number, action: (cluster: number) => MaybePromise<T>): MaybePromise<T> {
    const cluster = offset / this.clusterSize
    if (!Number.isSafeInteger(cluster) || cluster < this.#cursor || !(length > 0)) {
      throw new RangeError(`guest range of ${length} bytes at ${offset} is out of order`)
    }
    const limit = this.#size ?? Number.MAX_SAFE_INTEGER
    if (offset + length > limit) {
      throw new RangeError(`guest range of ${length} bytes at ${offset} ends past the disk, ${limit} bytes`)
    }
    const act = (): MaybePromise<T> => {
      const result = action(cluster)
      if (this.#pending === undefined) return result
      return this.#settle(this.#context).then(() => result)
    }
    const skipped = this.#skipTo(cluster)
    return isPromise(skipped) ? skipped.then(act) : act()
  }

  /** Deals with the clusters up to `cluster` that were not placed, and writes the tables that are complete. */
  #skipTo(cluster: number): MaybePromise<void> {
    const { preallocation, extendedL2, rawDataFile } = this.#image
    if (preallocation === 'off') {
      const { groupClusters } = this.#l2
      const passed = Math.floor(cluster / groupClusters) > Math.floor((this.#cursor - 1) / groupClusters)
      this.#cursor = cluster
      if (passed) this.#writeGroup()
      return
    }
    // As in QEMU: subclusters stay unallocated in their room, so that a backing file goes on showing.
    const zero = this.#encryption !== undefined && this.#image.version === 3
    // Room that nobody wrote to decrypts to garbage: it has to be told apart.
    const plain = zero ? 'zero' : 'data'
    const kind: EntryKind = extendedL2 && !rawDataFile ? 'reserved' : plain
    return this.#mapRange(this.#cursor, cluster, kind, true)
  }

  /** Maps clusters that hold no data, group by group. `room`: with host clusters. */
  #mapRange(first: number, end: number, kind: EntryKind, room: boolean): MaybePromise<void> {
    const { groupClusters } = this.#l2
    this.#cursor = end
    for (let at = first; at < end; ) {
      if (at % groupClusters === 0) this.#writeGroup()
      const count = Math.min(end - at, groupClusters - (at % groupClusters))
      const host = room ? this.#allocate(at, count) : -1
      if (room && this.#encryption && kind === 'data') this.#encryptZeros(this.#encryption, at, host, count)
      else if (room) this.#provideZeros(host, count)
      this.#l2.set(at, count, kind, host)
      at += count
      // A target that takes its time must not make tables pile up in memory.
      if (this.#pending !== undefined && at < end) {
        const next = at
        return this.#settle(this.#context).then(() => this.#mapRange(next, end, kind, room))
      }
    }
    if (end % groupClusters === 0) this.#writeGroup()
  }

  /** Byte offset, in the storage for data, of new host clusters. In an external data file they are at the guest's. */
  #allocate(cluster: number, count: number): number {
    return this.#dataFile ? cluster * this.clusterSize : this.#layout.clusters(count)
  }

  /** Version 2 can tell zeros only by holding them. */
  #encryptZeros(encryption: NewEncryption, cluster: number, host: number, count: number): void {
    const storage = encryption.at(cluster * this.clusterSize, host) as WritableStorage
    this.#later(() => fillZeros(storage, host, count * this.clusterSize, this.#context))
  }

  /** Host clusters that nobody writes must read as zeros, and take room where that was asked for. */
  #provideZeros(host: number, count: number): void {
    const { preallocation } = this.#image
    const length = count * this.clusterSize
    if (host < this.#oldBytes) {
      this.#later(() => this.#fillZeros(this.#data, host, length))
    } else if (!this.#reserved && (preallocation === 'falloc' || preallocation === 'full')) {
      this.#later(async () => {
        if (this.#data.preallocate) await this.#data.preallocate(host, length, preallocation, this.#context)
        else await this.#fillZeros(this.#data, host, length)
      })
    }
  }

  #fillZeros(storage: WritableStorage, offset: number, length: number): Promise<void> {
    return fillZeros(storage, offset, length, this.#context)
  }

  /** Writes the L2 tables of the group passed, and the refcount blocks that are complete. */
  #writeGroup(): void {
    const tables = this.#l2.take()
    if (tables.length > 0) {
      const offset = this.#layout.clusters(tables.length)
      tables.forEach(({ index, bytes }, i) => {
        this.#l1.set(index, offset + i * this.clusterSize)
        this.#put(offset + i * this.clusterSize, bytes)
        if (this.#pending === undefined) this.#l2.recycle(bytes)
      })
    }
    const { refcounts } = this.#layout
    for (let limit = this.#layout.settled(); ; limit = this.#layout.settled()) {
      const block = refcounts.take(limit)
      if (block === undefined) return
      this.#putRefcountBlock(this.#layout.clusters(1), block)
    }
  }

  #putRefcountBlock(offset: number, block: Uint8Array): void {
    this.#refcountBlocks.push(offset)
    this.#put(offset, block)
  }

  /** Returns the byte offset of the L1 table. */
  async #writeL1(entries: number): Promise<number> {
    if (entries === 0) return 0
    const length = alignUp(entries * 8, this.clusterSize)
    const offset = this.#layout.clusters(length / this.clusterSize)
    if (offset < this.#target.size) await this.#fillZeros(this.#target, offset, length)
    for (const { at, bytes } of this.#l1.parts()) this.#put(offset + at, bytes.subarray(0, length - at))
    return offset
  }

  async #writeRefcounts(): Promise<{ refcountTableOffset: number; refcountTableClusters: number }> {
    const { refcounts } = this.#layout
    const written = refcounts.taken
    const needed = refcountSize(this.#layout.next, this.clusterSize, refcounts.entries, written)
    if (needed.table * this.clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError('IMG_UNSUPPORTED_SIZE', 'the image needs a refcount table of more than 8 MiB', {
        format: 'qcow2',
        source: this.#target.label,
        hint: 'use a larger cluster_size',
      })
    }
    const first = this.#layout.clusters(needed.blocks - written)
    const refcountTableOffset = this.#layout.clusters(needed.table)
    for (let i = 0; i < needed.blocks - written; i++) {
      this.#putRefcountBlock(first + i * this.clusterSize, refcounts.takeAny())
      if (i % 64 === 63) await this.#settle(this.#context)
    }
    const table = new Uint8Array(needed.table * this.clusterSize)
    const view = viewOf(table)
    this.#refcountBlocks.forEach((offset, index) => {
      writeU64BE(view, index * 8, offset)
    })
    this.#put(refcountTableOffset, table)
    return { refcountTableOffset, refcountTableClusters: needed.table }
  }

  /** Writes metadata, at once where the target can. */
  #put(offset: number, bytes: Uint8Array): void {
    if (this.#pending === undefined && this.#target.writeSync?.(offset, bytes)) return
    this.#later(() => this.#target.write(offset, bytes, this.#context))
  }

  /** Does something after all that is pending. */
  #later(action: () => Promise<void>): void {
    this.#pending = this.#pending === undefined ? action() : this.#pending.then(action)
    this.#pending.catch(() => undefined)
  }

  async #settle(options: IoOptions): Promise<void> {
    while (this.#pending !== undefined) {
      const pending = this.#pending
      await pending
      if (this.#pending === pending) this.#pending = undefined
    }
    options.signal?.throwIfAborted()
  }
}
