import {
  type BlockDevice,
  type Extent,
  type ExtentOptions,
  ImageError,
  type IoOptions,
  type Storage,
} from '@img/core'

/** Guest bytes that could not be read. */
export interface Lost {
  readonly offset: number
  readonly length: number
  readonly reason: string
}

/** A disk that can be read whatever happens. */
export interface Salvaged {
  readonly disk: BlockDevice
  /** What was lost: ascending, neighbours of the same reason joined. */
  lost(): readonly Lost[]
}

/** Bytes below which a range that cannot be read is not split further. */
const sector = 512
/** Bytes tried at once where it cannot be told what there is. */
const blind = 64 * 1024

/**
 * The same disk, where what cannot be read reads as zeros, and is told of. Only faults of the image
 * and its files count. `storage`: the image's file; without it the mapping must be whole.
 */
export function salvaged(image: BlockDevice, storage: Storage | undefined): Salvaged {
  const lost: Lost[] = []
  const { size } = image
  async function read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    try {
      await image.read(offset, into, options)
    } catch (error) {
      options?.signal?.throwIfAborted()
      if (!ImageError.is(error) || error.code === 'IMG_CLOSED') throw error
      if (into.length <= sector) {
        into.fill(0)
        lost.push({ offset, length: into.length, reason: error.message })
        return
      }
      const half = Math.ceil(into.length / 2 / sector) * sector
      await read(offset, into.subarray(0, half), options)
      await read(offset + half, into.subarray(half), options)
    }
  }
  async function* extents(options: ExtentOptions = {}): AsyncGenerator<Extent> {
    let { offset = 0 } = options
    const end = offset + (options.length ?? size - offset)
    while (offset < end) {
      try {
        for await (const extent of image.extents({ ...options, offset, length: end - offset })) {
          yield extent
          offset = extent.offset + extent.length
        }
        return
      } catch (error) {
        options.signal?.throwIfAborted()
        if (!ImageError.is(error) || error.code === 'IMG_CLOSED' || storage === undefined) throw error
        // What is there cannot be told: it is read, piece by piece, as if it were data.
        const length = Math.min(blind - (offset % blind), end - offset)
        yield { kind: 'data', offset, length, depth: 0, storage, hostOffset: 0 }
        offset += length
      }
    }
  }
  return {
    disk: {
      size,
      blockSize: image.blockSize,
      read,
      extents,
      close: () => image.close(),
      [Symbol.asyncDispose]: () => image.close(),
    },
    lost: () => joined(lost),
  }
}

function joined(lost: readonly Lost[]): readonly Lost[] {
  const ranges: Lost[] = []
  for (const range of [...lost].sort((a, b) => a.offset - b.offset)) {
    const last = ranges.at(-1)
    const end = last === undefined ? -1 : last.offset + last.length
    if (last !== undefined && range.offset <= end && range.reason === last.reason) {
      ranges[ranges.length - 1] = {
        ...last,
        length: Math.max(end, range.offset + range.length) - last.offset,
      }
    } else ranges.push(range)
  }
  return ranges
}

/** One line for each range lost. */
export function lostText({ offset, length, reason }: Lost): string {
  return `error while reading offset ${offset}: ${length} bytes lost, read as zeros: ${reason}`
}
