import {
  type CompressionSpec,
  type CreateContext,
  type CreateSpec,
  type ImageWriter,
  type IoOptions,
  type Placement,
  viewOf,
  type WritableStorage,
  zeroBlock,
} from '@img/core'
import { compression } from './compression.js'
import { badOption } from './create-options.js'
import type { Encryption } from './encryption.js'
import { qcowError } from './errors.js'
import { CryptMethod, SECTOR, serialiseHeader } from './header.js'
import { l1Place, type NewImage, newImage, withSize } from './new-image.js'
import { type Entry, encodeEntry } from './tables.js'
import { l1Bytes } from './write-image.js'

/**
 * Starts a new image. Data is placed front to back; an L2 table is written as soon as the range that it maps is passed; then the L1
 * table, and the header last of all: before it, the file is no image.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_NO_SPACE, IMG_IO.
 */
export async function createQcow(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const image = newImage(spec)
  const encryption = await newEncryption(target, image, spec, context)
  const writer = new QcowWriter(target, image, spec.compress === true, context, encryption)
  await writer.start()
  return writer
}

/** The encryption of a new image; undefined without one. */
async function newEncryption(
  target: WritableStorage,
  { header }: NewImage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<Encryption | undefined> {
  if (header.cryptMethod === CryptMethod.none) return undefined
  const { unlock, weakness } = await import('./encryption.js')
  context.warn(weakness, 'WARN_WEAK_ENCRYPTION')
  return unlock(target, spec.options, context.secret)
}

class QcowWriter implements ImageWriter {
  readonly clusterSize: number
  readonly compression?: CompressionSpec
  readonly placeCompressed?: (offset: number, hostLength: number) => Promise<Placement>
  readonly #target: WritableStorage
  readonly #image: NewImage
  readonly #encryption: Encryption | undefined
  readonly #context: CreateContext
  /** Bytes that the target stood at before: there, what is not written may be garbage (a device). */
  readonly #oldBytes: number
  readonly #l1: number[] = []
  readonly #table: Uint8Array
  /** Index of the L2 table that is being filled; -1 before the first. */
  #index = -1
  /** Where the next room starts. */
  #end: number
  #closed = false

  constructor(
    target: WritableStorage,
    image: NewImage,
    compress: boolean,
    context: CreateContext,
    encryption: Encryption | undefined,
  ) {
    this.#encryption = encryption
    const { header, size } = image
    this.#target = target
    this.#image = image
    this.#context = context
    this.#oldBytes = target.size
    this.clusterSize = header.clusterSize
    this.#table = new Uint8Array(2 ** header.l2Bits * 8)
    this.#end = l1Place(header) + (size === undefined ? 0 : header.l1Size * 8)
    if (!compress) return
    this.compression = compression
    this.placeCompressed = async (offset, hostLength) => {
      await this.#enter(offset)
      const host = this.#take(hostLength, 1)
      this.#set(offset, { kind: 'compressed', host, length: hostLength })
      return { storage: target, hostOffset: host, length: this.clusterSize }
    }
  }

  /** Makes sure that what stood in the target before is no image any more. */
  async start(): Promise<void> {
    if (this.#oldBytes > 0) await this.#clear(0, Math.min(this.#oldBytes, SECTOR))
  }

  async place(offset: number, length: number): Promise<Placement> {
    await this.#enter(offset)
    const size = this.clusterSize
    const perTable = 2 ** this.#image.header.l2Bits
    const cluster = Math.floor(offset / size)
    const inside = offset % size
    const count = Math.min(Math.ceil((inside + length) / size), perTable - (cluster % perTable))
    const host = this.#take(count * size, size)
    for (let i = 0; i < count; i++) {
      this.#set((cluster + i) * size, { kind: 'data', host: host + i * size })
    }
    const placed = Math.min(length, count * size - inside)
    const rest = host + inside + placed
    // The rest of the last cluster would show if the disk were made larger.
    if (rest < Math.min(this.#end, this.#oldBytes)) await this.#clear(rest, this.#end - rest)
    const storage = this.#encryption?.at(cluster * size, host) ?? this.#target
    return { storage: storage as WritableStorage, hostOffset: host + inside, length: placed }
  }

  async finish(options: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    const target = this.#target
    if (this.#closed) throw qcowError('IMG_CLOSED', 'the new image was given up', target.label)
    const { size = options.size } = this.#image
    if (size === undefined) throw badOption('Image creation needs a size parameter')
    let header = withSize(this.#image.header, size)
    await this.#writeTable(options)
    if (this.#image.size === undefined) header = { ...header, l1Offset: this.#take(header.l1Size * 8, 8) }
    const l1 = new Float64Array(header.l1Size)
    for (const [index, offset] of this.#l1.entries()) if (offset !== undefined) l1[index] = offset
    await target.write(header.l1Offset, l1Bytes(l1), options)
    if (target.size < this.#end) await target.truncate(this.#end, options)
    await target.write(0, serialiseHeader(header), options)
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  /** Makes the L2 table for a guest offset the one that is filled. */
  async #enter(offset: number): Promise<void> {
    const index = Math.floor(offset / (this.clusterSize * 2 ** this.#image.header.l2Bits))
    if (index === this.#index) return
    await this.#writeTable(this.#context)
    this.#index = index
    this.#l1[index] = this.#take(this.#table.length, this.clusterSize)
    this.#table.fill(0)
  }

  async #writeTable(options: IoOptions): Promise<void> {
    if (this.#index < 0) return
    await this.#target.write(this.#l1[this.#index] as number, this.#table.slice(), options)
    this.#index = -1
  }

  #set(offset: number, entry: Entry): void {
    const { clusterBits, l2Bits } = this.#image.header
    const index = Math.floor(offset / this.clusterSize) % 2 ** l2Bits
    encodeEntry(viewOf(this.#table), index, entry, clusterBits)
  }

  #take(length: number, unit: number): number {
    const start = Math.ceil(this.#end / unit) * unit
    this.#end = start + length
    return start
  }

  async #clear(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += zeroBlock.length) {
      const part = zeroBlock.subarray(0, Math.min(zeroBlock.length, length - at))
      await this.#target.write(offset + at, part, this.#context)
    }
  }
}
