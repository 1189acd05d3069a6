import {
  divideUp,
  ImageError,
  type IoOptions,
  isWritable,
  type OpenContext,
  type Storage,
  viewOf,
  type WritableStorage,
  writeU64BE,
} from '@img/core'
import { ClusterAllocator, type ClusterSpan } from './allocate.js'
import { LiveBitmaps } from './bitmap-live.js'
import { pointedAt } from './entries.js'
import { corrupt, qcow2Error } from './errors.js'
import { Autoclear, Incompatible, writeFeatures } from './features.js'
import type { Header } from './header.js'
import type { MappedImage } from './mapping.js'
import { registerMetadata } from './metadata-places.js'
import { RefcountStore } from './refcount-store.js'
import { checkSnapshot, readSnapshots, type Snapshot } from './snapshot.js'
import { L1_PAGE_ENTRIES, L1Table, type TablePart } from './tables.js'
import { WriteGuard } from './write-guard.js'

/** Bytes of changed metadata, and clusters waiting to be freed, that are gathered before they are written. */
const MAX_CHANGED_BYTES = 8 * 1024 * 1024
const MAX_PENDING_FREES = 65536

/**
 * An image opened for writing: its metadata, changed in memory and written by `commit` in an order that survives a power
 * cut. Only one change at a time may go on.
 */
export class WritableImage {
  readonly image: MappedImage
  readonly storage: WritableStorage
  readonly clusterSize: number
  /** Guest data is in an external data file, at its guest offset. */
  readonly external: boolean
  readonly guard: WriteGuard
  readonly bitmaps: LiveBitmaps
  refcounts: RefcountStore
  allocator: ClusterAllocator
  l1: L1Table
  snapshots: readonly Snapshot[]
  /** L2 tables, by byte offset, that the L1 table in the file does not point at yet. */
  readonly #fresh = new Set<number>()
  /** Taken for data that core is writing; not mapped yet. */
  #unmapped: (() => Promise<void>) | undefined
  #begun = false
  #readsEnded: OpenContext['readsEnded']
  /** Why nothing can be changed any more. */
  #refused: ImageError | undefined

  private constructor(
    image: MappedImage,
    storage: WritableStorage,
    l1: L1Table,
    snapshots: readonly Snapshot[],
    refcounts: RefcountStore,
  ) {
    const { header } = image
    this.image = image
    this.storage = storage
    this.l1 = l1
    this.snapshots = snapshots
    this.refcounts = refcounts
    this.clusterSize = 2 ** header.clusterBits
    this.external = header.incompatibleFeatures.has(Incompatible.dataFile)
    this.guard = new WriteGuard(this.clusterSize, storage.label)
    this.bitmaps = new LiveBitmaps(this)
    this.allocator = new ClusterAllocator(
      refcounts,
      this.guard,
      this.clusterSize,
      2 ** header.refcountOrder,
      storage.label,
    )
  }

  /**
   * Prepares an opened image for changes. Writes nothing.
   * @throws {ImageError} IMG_READ_ONLY, IMG_CORRUPT, IMG_TRUNCATED.
   */
  static async open(
    image: MappedImage,
    l1: L1Table,
    snapshots: readonly Snapshot[],
    options?: IoOptions & Pick<OpenContext, 'readsEnded'>,
  ): Promise<WritableImage> {
    const storage = writable(image.storage)
    writable(image.data)
    const refcounts = await RefcountStore.open(storage, image.header, options)
    const target = new WritableImage(image, storage, l1, snapshots, refcounts)
    target.#readsEnded = options?.readsEnded
    return target
  }

  get header(): Header {
    return this.image.header
  }

  /** That file is kept readable as a raw image. */
  get rawData(): boolean {
    return this.header.autoclearFeatures.has(Autoclear.rawDataFile)
  }

  get hasBacking(): boolean {
    return this.header.backingFile !== undefined
  }

  /** Where guest data goes. */
  get writableData(): WritableStorage {
    return writable(this.image.data)
  }

  /**
   * To be called before every change. The first time it takes stock of where metadata lies, clears autoclear bits that
   * are not known here. Gives back what a failed write had taken, and commits where much has gathered.
   */
  async begin(): Promise<void> {
    await this.denounce()
    if (this.#refused) throw this.#refused
    if (!this.#begun) {
      await registerMetadata(this)
      await this.#announceChanges()
      this.#begun = true
    }
    await this.#abandon()
    const { cache } = this.image
    const changed =
      this.refcounts.dirtyBlocks * Math.min(this.clusterSize, 65536) + cache.pinned * cache.sliceBytes
    if (
      changed > MAX_CHANGED_BYTES ||
      cache.pinned * 2 > cache.capacity ||
      this.allocator.pendingFrees > MAX_PENDING_FREES
    ) {
      await this.commit()
    }
  }

  /**
   * Marks the image as corrupt where a write was stopped that would have destroyed metadata, as QEMU does: nothing is
   * changed before it is repaired. Version 2 has no such mark.
   */
  async denounce(): Promise<void> {
    if (!this.guard.overlapped || this.#refused) return
    const { header, storage } = this
    const message = 'tables and data of the image overlap: it cannot be changed before it is repaired'
    this.#refused = corrupt(message, storage.label)
    if (header.version === 2) return
    const incompatibleFeatures = new Set([...header.incompatibleFeatures, Incompatible.corrupt])
    const bytes = new Uint8Array(8)
    writeFeatures(viewOf(bytes), 0, incompatibleFeatures)
    await this.patchHeader(72, bytes, { incompatibleFeatures })
    await storage.flush()
  }

  /**
   * Takes everything from the file again: it was repaired. Nothing may be changed in memory only.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED where it is damaged still; it cannot be changed then.
   */
  async reload(header: Header, options?: IoOptions): Promise<void> {
    const { image, storage } = this
    image.header = header
    image.cache.clear()
    this.guard.clear()
    this.bitmaps.forget()
    this.#fresh.clear()
    this.#unmapped = undefined
    this.#begun = false
    this.l1 = new L1Table(storage, header.l1TableOffset, header.l1Size)
    try {
      this.snapshots = await readSnapshots(storage, header, header.size, options)
      for (const snapshot of this.snapshots) checkSnapshot(snapshot, header, storage)
      await this.replaceRefcounts(options)
      this.#refused = undefined
    } catch (error) {
      if (ImageError.is(error)) this.#refused = error
      throw error
    }
  }

  /** Remembers clusters that are given back unless `mapped` follows. */
  expect(span: ClusterSpan): void {
    this.#unmapped = () => this.allocator.release(span)
  }

  /** The same of room for compressed data. Bytes. */
  expectBytes(offset: number, length: number): void {
    this.#unmapped = () => this.allocator.releaseBytes(offset, length)
  }

  /** What was expected is part of the mapping now. */
  mapped(): void {
    this.#unmapped = undefined
  }

  /** Says that an L2 table is new: nothing in the file points at it. */
  addFresh(table: number): void {
    this.#fresh.add(table)
  }

  /**
   * Writes all that changed: refcounts and new tables; then, once these and all data are durable, what points at them;
   * then, once that is durable, the refcounts of what was freed. The last step is durable after the next flush.
   */
  async commit(options?: IoOptions): Promise<void> {
    await this.denounce()
    await this.#abandon()
    const { refcounts, l1, allocator, storage } = this
    const { cache, data } = this.image
    await refcounts.writeBlocks(options)
    for (const part of cache.changed()) {
      if (!this.#fresh.has(part.slice - (part.slice % this.clusterSize))) continue
      await this.#put('active L2 table', part.offset, part.bytes, options)
      cache.written(part.slice)
    }
    if (data !== storage) await data.flush?.(options)
    const parts = [...cache.changed()]
    if (refcounts.tableDirty || parts.length > 0 || l1.changes > 0) await storage.flush(options)
    if (refcounts.tableDirty) await this.#commitRefcountTable(options)
    for (const part of parts) {
      await this.#put('active L2 table', part.offset, part.bytes, options)
      cache.written(part.slice)
    }
    for (const { offset, bytes } of l1.changed()) await this.#put('active L1 table', offset, bytes, options)
    l1.written()
    this.#fresh.clear()
    cache.unpin()
    if (allocator.pendingFrees > 0) await this.#commitFrees(options)
  }

  /**
   * Writes a part of the header.
   * @param fields what it makes of the header in memory
   */
  async patchHeader(
    at: number,
    bytes: Uint8Array,
    fields: Partial<Header>,
    options?: IoOptions,
  ): Promise<void> {
    await this.storage.write(at, bytes, options)
    this.image.header = { ...this.header, ...fields }
  }

  /**
   * Makes everything durable, then points the header at another L1 table in one write.
   * @param size virtual size in bytes
   */
  async switchL1(size: number, l1: L1Table, options?: IoOptions): Promise<void> {
    await this.settle(options)
    const bytes = new Uint8Array(24)
    const view = viewOf(bytes)
    writeU64BE(view, 0, size)
    view.setUint32(8, this.header.cryptMethod)
    view.setUint32(12, l1.entries)
    writeU64BE(view, 16, l1.offset)
    await this.patchHeader(24, bytes, { size, l1Size: l1.entries, l1TableOffset: l1.offset }, options)
    await this.storage.flush(options)
    this.l1 = l1
  }

  /** Counts clusters by what the header says now. Nothing may be changed in memory only. */
  async replaceRefcounts(options?: IoOptions): Promise<void> {
    const { storage, header, guard, clusterSize } = this
    const bits = 2 ** header.refcountOrder
    this.refcounts = await RefcountStore.open(storage, header, options)
    this.allocator = new ClusterAllocator(this.refcounts, guard, clusterSize, bits, storage.label)
  }

  /** Waits for reads that began by now: they may have looked up clusters that the mapping has let go of since. */
  async readsEnded(): Promise<void> {
    await this.#readsEnded?.()
  }

  /** Commits, and waits until that is durable. */
  async settle(options?: IoOptions): Promise<void> {
    await this.commit(options)
    await this.storage.flush(options)
  }

  /** The page of the L1 table with an entry, loaded. */
  async l1Page(index: number): Promise<TablePart> {
    const pageIndex = Math.floor(index / L1_PAGE_ENTRIES)
    for (;;) {
      const page = this.l1.page(pageIndex)
      if (page !== undefined) return page
      await this.l1.load(pageIndex)
    }
  }

  async #commitRefcountTable(options?: IoOptions): Promise<void> {
    const { refcounts, storage } = this
    const moved = await refcounts.writeTable(options)
    await storage.flush(options)
    if (moved) {
      const bytes = new Uint8Array(12)
      writeU64BE(viewOf(bytes), 0, refcounts.tableOffset)
      viewOf(bytes).setUint32(8, refcounts.tableClusters)
      const fields = {
        refcountTableOffset: refcounts.tableOffset,
        refcountTableClusters: refcounts.tableClusters,
      }
      await this.patchHeader(48, bytes, fields, options)
      await storage.flush(options)
    }
    refcounts.tableWritten()
  }

  async #commitFrees(options?: IoOptions): Promise<void> {
    await this.storage.flush(options)
    await this.readsEnded()
    const spans = await this.allocator.applyFrees()
    await this.refcounts.writeBlocks(options)
    for (const { first, count } of spans) {
      const end = Math.min((first + count) * this.clusterSize, this.storage.size)
      const offset = first * this.clusterSize
      this.image.cache.forget(offset, end - offset)
      if (end > offset) await this.storage.discard?.(offset, end - offset, options)
    }
  }

  async #put(
    kind: 'active L1 table' | 'active L2 table',
    offset: number,
    bytes: Uint8Array,
    options?: IoOptions,
  ): Promise<void> {
    this.guard.assertKind(kind, offset, bytes.length)
    await this.storage.write(offset, bytes, options)
  }

  async #abandon(): Promise<void> {
    const giveBack = this.#unmapped
    this.#unmapped = undefined
    await giveBack?.()
  }

  /**
   * The L2 tables of the active disk: index in the L1 table and byte offset. Damaged entries are left out: they are an
   * error for whoever uses them.
   */
  async *activeTables(): AsyncGenerator<{ readonly index: number; readonly offset: number }> {
    const { l1, clusterSize } = this
    for (let first = 0; first < l1.entries; first += L1_PAGE_ENTRIES) {
      const page = await this.l1Page(first)
      for (let at = 0; at < page.length; at += 2) {
        const offset = pointedAt(page, at)
        if (offset > 0 && offset % clusterSize === 0) yield { index: first + at / 2, offset }
      }
    }
  }

  async #announceChanges(): Promise<void> {
    const { header, storage, image } = this
    const kept = new Set(
      [Autoclear.bitmaps, Autoclear.rawDataFile].filter((bit) => header.autoclearFeatures.has(bit)),
    )
    if (kept.size !== header.autoclearFeatures.size) {
      const bytes = new Uint8Array(8)
      writeFeatures(viewOf(bytes), 0, kept)
      await this.patchHeader(88, bytes, { autoclearFeatures: kept })
      await storage.flush()
    }
    // Mapped parts of a raw data file must lie in it.
    if (this.rawData && image.data.size < header.size) await writable(image.data).truncate(header.size)
  }
}

function writable(storage: Storage): WritableStorage {
  if (isWritable(storage)) return storage
  throw qcow2Error('IMG_READ_ONLY', 'it cannot be written', storage.label)
}

/** Clusters that an L1 table of so many entries takes. */
export function l1Clusters(entries: number, clusterSize: number): number {
  return divideUp(entries * 8, clusterSize)
}
