import {
  type CompressionSpec,
  type CreateContext,
  fillZeros,
  type ImageWriter,
  type IoOptions,
  isPromise,
  loadCodec,
  type MaybePromise,
  type Placement,
  type WritableStorage,
} from '@img/core'
import { type NewDisk, sectorsOf } from './create-options.js'
import { unsupported, vmdkError } from './errors.js'
import { SECTOR } from './limits.js'
import { ContentId, nameOf, newDescriptor } from './new-descriptor.js'
import { serialiseSparseHeader } from './sparse-header.js'
import { embeddedDescriptor } from './sparse-writer.js'
import { type Placed, StreamLayout, streamHeader } from './stream-layout.js'

/** Starts a stream-optimized disk in a file; its size may be told at the end. */
export async function createStream(
  target: WritableStorage,
  disk: NewDisk,
  size: number | undefined,
  context: CreateContext,
): Promise<ImageWriter> {
  if (size !== undefined) sectorsOf(size, disk)
  const writer = new StreamWriter(target, disk, size, context)
  await writer.start()
  return writer
}

/** How the grains of a disk are compressed. */
export function compressionOf(disk: NewDisk): CompressionSpec {
  return { codec: 'zlib', ...(disk.level !== undefined && { level: disk.level }) }
}

/** A grain that does not shrink, in DEFLATE's stored form: readers know no other. Filled up with zeros to a whole grain. */
export function storedGrain(bytes: Uint8Array, grainSize: number): MaybePromise<Uint8Array> {
  let whole = bytes
  if (bytes.length < grainSize) {
    whole = new Uint8Array(grainSize)
    whole.set(bytes)
  }
  const codec = loadCodec('zlib')
  return isPromise(codec)
    ? codec.then((ready) => ready.compress(whole, { level: 0 }))
    : codec.compress(whole, { level: 0 })
}

class StreamWriter implements ImageWriter {
  readonly clusterSize: number
  readonly compression: CompressionSpec
  readonly #target: WritableStorage
  readonly #disk: NewDisk
  readonly #context: CreateContext
  readonly #layout: StreamLayout
  readonly #content = new ContentId()
  readonly #oldBytes: number
  #size: number | undefined
  /** Guest bytes below are dealt with. */
  #cursor = 0
  #closed = false

  constructor(target: WritableStorage, disk: NewDisk, size: number | undefined, context: CreateContext) {
    this.clusterSize = disk.grainSectors * SECTOR
    this.compression = compressionOf(disk)
    this.#target = target
    this.#disk = disk
    this.#size = size
    this.#context = context
    this.#layout = new StreamLayout(disk.grainSectors)
    this.#oldBytes = target.size
  }

  async start(): Promise<void> {
    const old = Math.min(this.#oldBytes, this.#layout.sectors * SECTOR)
    if (old > 0) await fillZeros(this.#target, 0, old, this.#context)
  }

  /** A grain that does not shrink: what is written to the storage returned is wrapped, and goes where it fits. */
  place(offset: number, length: number): Placement {
    this.#check(offset, length)
    const part = Math.min(length, this.clusterSize)
    return { storage: this.#wrapping(offset), hostOffset: 0, length: part }
  }

  async placeCompressed(offset: number, hostLength: number): Promise<Placement> {
    this.#check(offset, 1)
    const grain = offset / this.clusterSize
    const { before, dataOffset } = this.#layout.grain(grain, hostLength)
    this.#content.add(grain)
    this.#content.add(hostLength)
    const length = Math.min(this.clusterSize, (this.#size ?? Number.MAX_SAFE_INTEGER) - offset)
    this.#cursor = offset + length
    await this.#write(before)
    const end = dataOffset + hostLength
    const rest = this.#layout.sectors * SECTOR - end
    if (rest > 0 && end < this.#oldBytes) await fillZeros(this.#target, end, rest, this.#context)
    return { storage: this.#target, hostOffset: dataOffset, length }
  }

  async finish(options: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    const { label } = this.#target
    if (this.#closed) throw vmdkError('IMG_CLOSED', 'the new image was given up', label)
    const size = this.#size ?? options.size
    if (size === undefined) throw new TypeError('the size of the new image is not known')
    if (this.#cursor > Math.ceil(size / this.clusterSize) * this.clusterSize) {
      throw new RangeError(`data was placed past the end of the disk, ${size} bytes`)
    }
    const sectors = sectorsOf(size, this.#disk)
    this.#content.add(sectors)
    await this.#write(this.#layout.end(sectors))
    const file = nameOf(label)
    const descriptor = newDescriptor(this.#disk, [{ sectors, file }], this.#content.ids())
    await this.#target.write(SECTOR, embeddedDescriptor(descriptor), options)
    await this.#target.truncate(this.#layout.sectors * SECTOR, options)
    await this.#target.write(
      0,
      serialiseSparseHeader(streamHeader(sectors, this.#disk.grainSectors)),
      options,
    )
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #check(offset: number, length: number): void {
    const limit = this.#size ?? Number.MAX_SAFE_INTEGER
    if (
      offset % this.clusterSize !== 0 ||
      offset < this.#cursor ||
      !(length > 0) ||
      offset + length > limit
    ) {
      throw new RangeError(`guest range of ${length} bytes at ${offset} is out of order`)
    }
  }

  async #write(parts: readonly Placed[]): Promise<void> {
    for (const { sector, bytes } of parts) {
      if (this.#target.writeSync?.(sector * SECTOR, bytes) !== true) {
        await this.#target.write(sector * SECTOR, bytes, this.#context)
      }
    }
  }

  #wrapping(offset: number): WritableStorage {
    const target = this.#target
    const refuse = async (): Promise<never> => {
      throw unsupported('grains can only be written whole', target.label)
    }
    const close = async (): Promise<void> => undefined
    return {
      label: target.label,
      size: 0,
      read: refuse,
      write: async (_at, bytes, options) => {
        const packed = await storedGrain(bytes, this.clusterSize)
        const room = await this.placeCompressed(offset, packed.length)
        await target.write(room.hostOffset, packed, options)
      },
      truncate: refuse,
      flush: close,
      slice: () => target.slice(0, 0),
      close,
      [Symbol.asyncDispose]: close,
    }
  }
}
