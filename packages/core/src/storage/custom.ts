import { checkRange, type MaybePromise, maxOffset } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { IoOptions, Storage } from '../storage.js'
import { type BlockOptions, blockSizes, blockStorage } from './block-storage.js'
import { rootMessage } from './faults.js'

/** What {@link storageFrom} makes a storage of. `cacheBytes` is 4 MiB by default. */
export interface StorageSource extends BlockOptions {
  /** For messages. */
  readonly label: string
  /** Bytes of the whole; does not change. */
  readonly size: number
  /** The same for two openings of one thing. Default: absent. */
  readonly identity?: string | undefined
  /** Longest range asked for in one call, in bytes; at least `blockSize`. Default 8 MiB. */
  readonly maxRead?: number | undefined
  /** Bytes asked for before they are needed, where reads go forward. Default 0. */
  readonly readAhead?: number | undefined
  /**
   * Gives exactly the bytes of a range. Guaranteed: `0 <= offset`, `0 < length`, `offset + length <= size`; `offset` is a
   * multiple of `blockSize`. Calls overlap. The array is the storage's afterwards.
   * What it throws reaches the reader as it is where it is an ImageError, else as the cause of an IMG_IO.
   */
  read(offset: number, length: number, options: IoOptions): MaybePromise<Uint8Array>
  /** Called once, when the storage is closed. */
  close?(): void | Promise<void>
}

/**
 * A read-only storage over any source of bytes, such as an object store's client: ranges in blocks, cached, each asked for
 * once however many wait for it.
 * @throws {RangeError} for sizes that cannot be.
 */
export function storageFrom(source: StorageSource): Storage {
  const sizes = blockSizes(source, 4 * 1024 * 1024)
  const { label, size, identity, maxRead = 8 * 1024 * 1024, readAhead = 0 } = source
  checkRange(0, size, maxOffset)
  if (!(maxRead >= sizes.blockSize)) throw new RangeError(`maxRead ${maxRead} is less than a block`)
  if (!(readAhead >= 0)) throw new RangeError(`readAhead ${readAhead} is not a number of bytes`)
  return blockStorage({
    ...sizes,
    label,
    size,
    identity,
    maxLoad: maxRead,
    readAhead,
    load: (offset, length, signal) => loadFrom(source, offset, length, signal),
    close: () => source.close?.(),
  })
}

async function loadFrom(
  source: StorageSource,
  offset: number,
  length: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { label } = source
  let bytes: Uint8Array
  try {
    bytes = await source.read(offset, length, { signal })
  } catch (cause) {
    if (ImageError.is(cause)) throw cause
    throw new ImageError('IMG_IO', `${label} cannot be read at offset ${offset}: ${rootMessage(cause)}`, {
      source: label,
      offset,
      cause,
    })
  }
  if (bytes.length !== length) {
    throw new ImageError(
      'IMG_IO',
      `${label} gave ${bytes.length} bytes at offset ${offset} where ${length} were asked for`,
      {
        source: label,
        offset,
      },
    )
  }
  return bytes
}
