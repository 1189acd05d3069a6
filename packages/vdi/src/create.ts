import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  fillZeros,
  type ImageWriter,
  type IoOptions,
  type Placement,
  type WritableStorage,
} from '@img/core'
import { writeEntries } from './block-map.js'
import { badOption } from './create-options.js'
import { vdiError } from './errors.js'
import { type Header, ImageType, serialiseHeader } from './header.js'
import { FREE, SECTOR, ZERO } from './limits.js'
import { dataOffset, type NewImage, newBlocks, newImage, withParent } from './new-image.js'

/**
 * Starts a new image: blocks in the order in which they come, or in that of the disk where it is fixed; then the block map, and
 * the header last of all: before it, the file is no image.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_REFERENCE_DENIED, IMG_NO_SPACE, IMG_IO.
 */
export async function createVdi(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const image = newImage(spec)
  const header = await withParent(image.header, spec.options, context)
  const writer = new VdiWriter(target, { ...image, header }, context)
  await writer.start()
  return writer
}

class VdiWriter implements ImageWriter {
  readonly clusterSize: number
  readonly zero?: (offset: number, length: number) => void
  readonly #target: WritableStorage
  readonly #image: NewImage
  readonly #header: Header
  readonly #context: CreateContext
  /** Bytes that the target stood at before: there, what is not written may be garbage (a device). */
  readonly #oldBytes: number
  #entries: Uint32Array
  /** Blocks placed. */
  #next = 0
  /** Guest blocks from here on were not placed. */
  #cursor = 0
  #closed = false

  constructor(target: WritableStorage, image: NewImage, context: CreateContext) {
    this.#target = target
    this.#image = image
    this.#header = image.header
    this.#context = context
    this.#oldBytes = target.size
    this.clusterSize = image.header.blockSize
    const blocks = image.size === undefined ? 0 : newBlocks(image.size, this.clusterSize)
    this.#entries = new Uint32Array(blocks).fill(FREE)
    // A fixed image has room for all; without a parent, what was never written is zero.
    if (image.header.type !== ImageType.differencing) return
    this.zero = (offset, length) => {
      const first = Math.floor(offset / this.clusterSize)
      this.#reach(Math.ceil((offset + length) / this.clusterSize)).fill(ZERO, first)
    }
  }

  /** Makes sure that what stood in the target before is no image any more, and reserves room where that was asked for. */
  async start(): Promise<void> {
    if (this.#oldBytes > 0) await this.#fillZeros(0, Math.min(this.#oldBytes, SECTOR))
    const { preallocation, size } = this.#image
    if (size === undefined || (preallocation !== 'falloc' && preallocation !== 'full')) return
    if (this.#target.preallocate === undefined || this.#oldBytes > 0) return
    const { dataOffset: start, blockSize } = this.#header
    await this.#target.preallocate(
      0,
      start + newBlocks(size, blockSize) * blockSize,
      preallocation,
      this.#context,
    )
  }

  async place(offset: number, length: number): Promise<Placement> {
    const size = this.clusterSize
    const first = Math.floor(offset / size)
    const inside = offset % size
    const end = Math.ceil((offset + length) / size)
    const entries = this.#reach(end).subarray(first)
    if (this.#image.fixed) {
      await this.#clearGap(this.#cursor, first)
      for (let i = 0; i < entries.length; i++) entries[i] = first + i
    } else {
      for (let i = 0; i < entries.length; i++) entries[i] = this.#next++
    }
    this.#cursor = end
    const hostOffset = this.#header.dataOffset + (entries[0] as number) * size + inside
    const rest = end * size - (offset + length)
    if (rest > 0) await this.#clearOld(hostOffset + length, rest)
    return { storage: this.#target, hostOffset, length, fresh: hostOffset >= this.#oldBytes }
  }

  async finish(options: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    const target = this.#target
    if (this.#closed) throw vdiError('IMG_CLOSED', 'the new image was given up', target.label)
    const asked = this.#image.size ?? (options.size === undefined ? undefined : alignUp(options.size, SECTOR))
    if (asked === undefined) throw badOption('Image creation needs a size parameter')
    const { blockSize, dataOffset: start, type } = this.#header
    const blocks = newBlocks(asked, blockSize)
    if (start < dataOffset(blocks)) {
      throw vdiError(
        'IMG_UNSUPPORTED_SIZE',
        `a disk of ${asked} bytes, whose size was not known beforehand, needs a larger block map`,
        target.label,
        undefined,
        'give the size, or take larger blocks',
      )
    }
    const entries = this.#reach(blocks)
    if (type === ImageType.fixed) {
      await this.#clearGap(this.#cursor, blocks)
      for (let block = 0; block < blocks; block++) entries[block] = block
      this.#next = blocks
    }
    const end = start + this.#next * blockSize
    if (target.size < end) await target.truncate(end, options)
    await writeEntries(target, this.#header.mapOffset, entries, options)
    if (target.size < start) await target.truncate(start, options)
    const header = { ...this.#header, size: asked, blocks, allocated: this.#next }
    await target.write(0, serialiseHeader(header), options)
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  /** The entries up to `end`, made if there are not so many yet. */
  #reach(end: number): Uint32Array {
    if (end > this.#entries.length) {
      const longer = new Uint32Array(Math.max(end, this.#image.size === undefined ? end * 2 : end)).fill(FREE)
      longer.set(this.#entries)
      this.#entries = longer
    }
    return this.#entries.subarray(0, end)
  }

  /** Clears blocks of a fixed image that are not placed. */
  async #clearGap(from: number, to: number): Promise<void> {
    const { dataOffset: start, blockSize } = this.#header
    if (to > from) await this.#clearOld(start + from * blockSize, (to - from) * blockSize)
  }

  /** Clears what the target held before. */
  async #clearOld(offset: number, length: number): Promise<void> {
    const end = Math.min(offset + length, this.#oldBytes)
    if (end > offset) await this.#fillZeros(offset, end - offset)
  }

  #fillZeros(offset: number, length: number): Promise<void> {
    return fillZeros(this.#target, offset, length, this.#context)
  }
}
