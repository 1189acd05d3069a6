import {
  alignDown,
  type CreateContext,
  type CreateSpec,
  divideUp,
  fillZeros,
  type ImageWriter,
  type IoOptions,
  type MaybePromise,
  type Placement,
  type WritableStorage,
} from '@img/core'
import { type NewDisk, newDisk, sectorsOf } from './create-options.js'
import { unsupported, vmdkError } from './errors.js'
import { SECTOR, SPLIT_SECTORS } from './limits.js'
import {
  extentName,
  type NewExtent,
  nameOf,
  newCid,
  newDescriptor,
  newLongPrefix,
  parentCidOf,
} from './new-descriptor.js'
import { SparseWriter } from './sparse-writer.js'

/**
 * Starts a new disk of any subformat. Data is placed front to back; the headers, and the descriptor, are written last.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING,
 * IMG_NO_SPACE, IMG_IO.
 */
export async function createVmdk(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const disk = newDisk(spec)
  if (disk.stream) {
    const { createStream } = await import('./stream-writer.js')
    return createStream(target, disk, spec.size, context)
  }
  const size = spec.size ?? (spec.options.size as number | undefined)
  if (size === undefined) {
    throw unsupported(
      'the size must be known: tables stand before the data',
      target.label,
      undefined,
      'take subformat=streamOptimized, or read from a file',
    )
  }
  const sectors = sectorsOf(size, disk)
  const parentCid = disk.backingFile === undefined ? undefined : await parentCidOf(disk.backingFile, context)
  const writer = new DiskWriter(disk, target, sectors, parentCid, context)
  try {
    await writer.start()
  } catch (error) {
    await writer.close()
    throw error
  }
  return writer
}

interface Part {
  /** First byte of the disk, and bytes. */
  readonly offset: number
  readonly size: number
  readonly storage: WritableStorage
  readonly file: string
  readonly sparse: SparseWriter | undefined
}

class DiskWriter implements ImageWriter {
  readonly clusterSize: number
  readonly #disk: NewDisk
  readonly #target: WritableStorage
  readonly #sectors: number
  readonly #parentCid: number | undefined
  readonly #context: CreateContext
  readonly #parts: Part[] = []
  #cursor = 0
  #closed = false

  constructor(
    disk: NewDisk,
    target: WritableStorage,
    sectors: number,
    parentCid: number | undefined,
    context: CreateContext,
  ) {
    this.clusterSize = disk.flat ? 1 : disk.grainSectors * SECTOR
    this.#disk = disk
    this.#target = target
    this.#sectors = sectors
    this.#parentCid = parentCid
    this.#context = context
  }

  async start(): Promise<void> {
    const { flat, split, grainSectors, zeroedGrain, backingFile } = this.#disk
    const target = this.#target
    const beside = flat || split
    if (beside && target.size > 0) {
      // What stood there before is no image any more.
      await fillZeros(target, 0, Math.min(target.size, 65536), this.#context)
    }
    const count = split ? Math.max(1, divideUp(this.#sectors, SPLIT_SECTORS)) : 1
    for (let index = 0; index < count; index++) {
      const first = index * SPLIT_SECTORS
      const capacity = split ? Math.min(SPLIT_SECTORS, this.#sectors - first) : this.#sectors
      const file = beside ? extentName(target.label, this.#disk, index) : nameOf(target.label)
      const storage = beside ? await this.#context.createReference({ kind: 'extent', name: file }) : target
      const sparse = flat
        ? undefined
        : new SparseWriter(storage, {
            capacity,
            grainSectors,
            zeroedGrain,
            embedded: !split,
            backing: backingFile !== undefined,
          })
      this.#parts.push({ offset: first * SECTOR, size: capacity * SECTOR, storage, file, sparse })
      await sparse?.start(this.#context)
    }
  }

  place(offset: number, length: number): MaybePromise<Placement> {
    const part = this.#enter(offset, length)
    const within = offset - part.offset
    const most = Math.min(length, part.size - within)
    this.#cursor = offset + most
    if (part.sparse) return part.sparse.place(within, most, this.#context)
    return { storage: part.storage, hostOffset: within, length: most }
  }

  async zero(offset: number, length: number): Promise<void> {
    // Flat files are new, so that what is not written in them is zero.
    for (let at = offset; at < offset + length; ) {
      const part = this.#enter(at, length)
      const most = Math.min(offset + length, part.offset + part.size) - at
      this.#cursor = at + most
      await part.sparse?.zero(at - part.offset, most, this.#context)
      at += most
    }
  }

  async finish(options: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    if (this.#closed) throw vmdkError('IMG_CLOSED', 'the new image was given up', this.#target.label)
    const ids = { cid: newCid(), parentCid: this.#parentCid, longPrefix: newLongPrefix() }
    const extents: NewExtent[] = this.#parts.map(({ file, size }) => ({ file, sectors: size / SECTOR }))
    const descriptor = newDescriptor(this.#disk, extents, ids)
    const { split, flat } = this.#disk
    for (const { sparse, storage, size } of this.#parts) {
      if (sparse) await sparse.finish(split ? undefined : descriptor, options)
      else await storage.truncate(size, options)
    }
    if (!split && !flat) return
    await this.#target.write(0, descriptor, options)
    await this.#target.truncate(descriptor.length, options)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const { storage } of this.#parts) if (storage !== this.#target) await storage.close()
  }

  /** Checks a range. Returns the extent that its first byte is in. */
  #enter(offset: number, length: number): Part {
    const size = this.#sectors * SECTOR
    if (offset < this.#cursor || offset % this.clusterSize !== 0 || !(length > 0) || offset + length > size) {
      throw new RangeError(`guest range of ${length} bytes at ${offset} is out of order`)
    }
    const index = this.#disk.split ? alignDown(offset, SPLIT_SECTORS * SECTOR) / (SPLIT_SECTORS * SECTOR) : 0
    return this.#parts[index] as Part
  }
}
