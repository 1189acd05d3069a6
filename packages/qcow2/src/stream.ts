import {
  alignUp,
  type Compress,
  type CreateContext,
  type CreateSpec,
  compressHere,
  divideUp,
  type ForwardSink,
  ForwardWriter,
  ImageError,
  type StreamSource,
  viewOf,
  writeU64BE,
} from '@img/core'
import { badOption } from './create-options.js'
import { l1Entries, l2EntryBytes, serialiseHeader } from './header.js'
import { encodeL1, L2Tables } from './l2-tables.js'
import { HostLayout } from './layout.js'
import { LengthList } from './length-list.js'
import { MAX_REFCOUNT_TABLE_BYTES } from './limits.js'
import { compressionSpec, finalHeader, type NewImage, newImage, storedSize } from './new-image.js'
import { refcountSize } from './refcounts.js'

/** Guest bytes that are compressed at a time, unless one cluster is larger. */
const BATCH_BYTES = 1024 * 1024

/** A run of guest clusters that hold data. */
interface ClusterRange {
  readonly first: number
  readonly count: number
}

/** Where everything goes, in clusters from the start of the file. */
interface Plan {
  readonly size: number
  readonly l1Size: number
  readonly refcountTable: number
  readonly refcountBlocks: number
  readonly l1Clusters: number
  readonly l2Tables: number
  readonly dataClusters: number
}

/**
 * Writes an image in one forward pass: header, refcount table, refcount blocks, L1 table, L2 tables, data. What comes
 * first depends on what comes last, so the source tells beforehand which clusters hold data; to compress, they are
 * compressed twice, once to learn how long each will be.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_IO where the source changed meanwhile.
 */
export async function streamQcow2(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const image = newImage(spec.options, spec.compress)
  if (image.backingFile !== undefined || image.dataFile !== undefined || image.preallocation !== 'off') {
    throw badOption(
      'an image that is written to a pipe cannot have a backing file, a data file or preallocation',
      'write it to a file',
    )
  }
  if (image.encryption !== undefined) {
    throw new ImageError('IMG_UNSUPPORTED', 'an encrypted qcow2 image cannot be written to a pipe', {
      format: 'qcow2',
      hint: 'write it to a file, or write a luks image to the pipe',
    })
  }
  await new Streamer(image, sink, source, context, spec.compress === true).run()
}

class Streamer {
  readonly #image: NewImage
  readonly #clusterSize: number
  readonly #out: ForwardWriter
  readonly #source: StreamSource
  readonly #context: CreateContext
  readonly #compress: Compress | undefined
  /** Compressed bytes of each data cluster, in order; 0: it stays as it is. */
  readonly #lengths = new LengthList()

  constructor(
    image: NewImage,
    sink: ForwardSink,
    source: StreamSource,
    context: CreateContext,
    compress: boolean,
  ) {
    this.#image = image
    this.#clusterSize = image.clusterSize
    this.#out = new ForwardWriter(sink)
    this.#source = source
    this.#context = context
    this.#compress = compress ? (context.compress ?? compressHere) : undefined
  }

  async run(): Promise<void> {
    if (this.#compress) {
      for await (const { packed } of this.#compressed(this.#compress)) this.#lengths.push(packed?.length ?? 0)
    }
    const plan = await this.#plan()
    await this.#writeHeader(plan)
    await this.#writeRefcounts(plan)
    await this.#writeL1(plan)
    await this.#writeL2(plan)
    if (this.#compress) await this.#writeCompressed(plan, this.#compress)
    else await this.#writeData()
    await this.#out.end()
  }

  async *#ranges(): AsyncGenerator<ClusterRange> {
    for await (const { offset, length } of this.#source.dataRanges(this.#clusterSize)) {
      this.#context.signal?.throwIfAborted()
      yield { first: offset / this.#clusterSize, count: divideUp(length, this.#clusterSize) }
    }
  }

  async #plan(): Promise<Plan> {
    const { header, refcountOrder } = this.#image
    const clusterSize = this.#clusterSize
    const size = storedSize(this.#source.size, this.#image)
    const l1Size = l1Entries(size, header)
    const l1Clusters = divideUp(l1Size * 8, clusterSize)
    let l2Tables = 0
    for await (const _ of this.#tables()) l2Tables++
    const layout = this.#newLayout(0)
    for await (const range of this.#ranges()) this.#place(layout, range)
    const dataClusters = layout.next
    const needed = refcountSize(
      1 + l1Clusters + l2Tables + dataClusters,
      clusterSize,
      (clusterSize * 8) / 2 ** refcountOrder,
    )
    if (needed.table * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError('IMG_UNSUPPORTED_SIZE', 'the image needs a refcount table of more than 8 MiB', {
        format: 'qcow2',
        hint: 'use a larger cluster_size',
      })
    }
    return {
      size,
      l1Size,
      l1Clusters,
      l2Tables,
      dataClusters,
      refcountTable: needed.table,
      refcountBlocks: needed.blocks,
    }
  }

  /** Indexes of the L2 tables that are needed, ascending. */
  async *#tables(): AsyncGenerator<number> {
    const entries = this.#clusterSize / l2EntryBytes(this.#image.header)
    let next = 0
    for await (const { first, count } of this.#ranges()) {
      const end = divideUp(first + count, entries)
      for (let index = Math.max(next, Math.floor(first / entries)); index < end; index++) yield index
      next = end
    }
  }

  /** A layout whose first `taken` clusters are in use. */
  #newLayout(taken: number): HostLayout {
    const layout = new HostLayout(this.#image.clusterBits, this.#image.refcountOrder, true)
    this.#lengths.rewind()
    if (taken > 0) layout.clusters(taken)
    return layout
  }

  /**
   * Gives room to a range of data clusters, the same at every call. Hands over each host offset and compressed length
   * where they are asked for, and every refcount block that is complete.
   */
  #place(
    layout: HostLayout,
    { first, count }: ClusterRange,
    each?: (cluster: number, count: number, host: number, length: number) => void,
    blocks?: Uint8Array[],
  ): void {
    if (!this.#compress) {
      // Long runs in parts, so that complete blocks do not pile up.
      for (let at = 0; at < count; ) {
        const part = Math.min(count - at, layout.refcounts.entries)
        const host = layout.clusters(part)
        each?.(first + at, part, host, 0)
        this.#takeBlocks(layout, blocks)
        at += part
      }
      return
    }
    for (let cluster = first; cluster < first + count; cluster++) {
      const length = this.#lengths.next()
      const host = length > 0 ? layout.bytes(length) : layout.clusters(1)
      each?.(cluster, 1, host, length)
      this.#takeBlocks(layout, blocks)
    }
  }

  #takeBlocks(layout: HostLayout, into: Uint8Array[] | undefined): void {
    for (;;) {
      const block = layout.refcounts.take(layout.settled())
      if (block === undefined) return
      into?.push(block)
    }
  }

  #dataStart(plan: Plan): number {
    return 1 + plan.refcountTable + plan.refcountBlocks + plan.l1Clusters + plan.l2Tables
  }

  async #writeHeader(plan: Plan): Promise<void> {
    const header = finalHeader(this.#image, {
      size: plan.size,
      l1TableOffset:
        plan.l1Size === 0 ? 0 : (1 + plan.refcountTable + plan.refcountBlocks) * this.#clusterSize,
      refcountTableOffset: this.#clusterSize,
      refcountTableClusters: plan.refcountTable,
    })
    await this.#out.write(serialiseHeader(header))
    await this.#out.zerosTo(this.#clusterSize)
  }

  async #writeRefcounts(plan: Plan): Promise<void> {
    const table = new Uint8Array(plan.refcountTable * this.#clusterSize)
    const view = viewOf(table)
    for (let index = 0; index < plan.refcountBlocks; index++) {
      writeU64BE(view, index * 8, (1 + plan.refcountTable + index) * this.#clusterSize)
    }
    await this.#out.write(table)
    const layout = this.#newLayout(this.#dataStart(plan))
    const blocks: Uint8Array[] = []
    const writeBlocks = async (): Promise<void> => {
      for (const block of blocks) await this.#out.write(block)
      blocks.length = 0
    }
    this.#takeBlocks(layout, blocks)
    for await (const range of this.#ranges()) {
      this.#place(layout, range, undefined, blocks)
      await writeBlocks()
    }
    while (layout.refcounts.taken < plan.refcountBlocks) blocks.push(layout.refcounts.takeAny())
    await writeBlocks()
  }

  async #writeL1(plan: Plan): Promise<void> {
    const chunk = new Float64Array(4096)
    const first = this.#out.position
    const end = first + plan.l1Clusters * this.#clusterSize
    let base = 0
    let offset = end
    const flush = async (): Promise<void> => {
      await this.#out.write(encodeL1(chunk).subarray(0, Math.max(0, end - this.#out.position)))
      base += chunk.length
      chunk.fill(0)
    }
    for await (const index of this.#tables()) {
      while (index >= base + chunk.length) await flush()
      chunk[index - base] = offset
      offset += this.#clusterSize
    }
    await flush()
    await this.#out.zerosTo(end)
  }

  async #writeL2(plan: Plan): Promise<void> {
    const tables = new L2Tables(this.#image.clusterBits, this.#image.extendedL2)
    const { groupClusters } = tables
    const layout = this.#newLayout(this.#dataStart(plan))
    const write = async (): Promise<void> => {
      for (const { bytes } of tables.take()) {
        await this.#out.write(bytes)
        tables.recycle(bytes)
      }
    }
    let group = 0
    for await (const { first, count } of this.#ranges()) {
      for (let at = first; at < first + count; ) {
        if (Math.floor(at / groupClusters) !== group) await write()
        group = Math.floor(at / groupClusters)
        const part = Math.min(first + count - at, groupClusters - (at % groupClusters))
        this.#place(layout, { first: at, count: part }, (cluster, clusters, host, length) => {
          if (length > 0) tables.setCompressed(cluster, host, length)
          else tables.set(cluster, clusters, 'data', host)
        })
        at += part
      }
    }
    await write()
  }

  async #writeData(): Promise<void> {
    const { size } = this.#source
    for await (const { first, count } of this.#ranges()) {
      const offset = first * this.#clusterSize
      await this.#out.fill(count * this.#clusterSize, (into, done) => this.#read(offset + done, into, size))
    }
  }

  /** Guest bytes; zeros past the end of the disk. */
  async #read(offset: number, into: Uint8Array, size: number): Promise<void> {
    const visible = Math.max(0, Math.min(into.length, size - offset))
    if (visible > 0) await this.#source.read(offset, into.subarray(0, visible), this.#context)
    into.fill(0, visible)
  }

  /** Every data cluster in order: its bytes, and compressed where that is shorter. */
  async *#compressed(
    compress: Compress,
  ): AsyncGenerator<{ readonly whole: Uint8Array; readonly packed: Uint8Array | undefined }> {
    const size = this.#clusterSize
    const method = compressionSpec(this.#image)
    const batch = Math.max(1, Math.floor(BATCH_BYTES / size))
    for await (const { first, count } of this.#ranges()) {
      for (let at = 0; at < count; at += batch) {
        const clusters = Math.min(batch, count - at)
        const bytes = new Uint8Array(clusters * size)
        await this.#read((first + at) * size, bytes, this.#source.size)
        const wholes = Array.from({ length: clusters }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
        const packed = await Promise.all(wholes.map((whole) => compress(whole, method)))
        for (let i = 0; i < clusters; i++) {
          const result = packed[i] as Uint8Array
          yield { whole: wholes[i] as Uint8Array, packed: result.length < size ? result : undefined }
        }
      }
    }
  }

  async #writeCompressed(plan: Plan, compress: Compress): Promise<void> {
    const start = this.#dataStart(plan)
    const layout = this.#newLayout(start)
    for await (const { whole, packed } of this.#compressed(compress)) {
      const length = this.#lengths.next()
      if (length !== (packed?.length ?? 0)) {
        throw new ImageError('IMG_IO', 'the source was changed while it was read', { format: 'qcow2' })
      }
      const host = packed ? layout.bytes(length) : layout.clusters(1)
      this.#takeBlocks(layout, undefined)
      await this.#out.zerosTo(host)
      await this.#out.write(packed ?? whole)
    }
    await this.#out.zerosTo(alignUp(this.#out.position, this.#clusterSize))
  }
}
