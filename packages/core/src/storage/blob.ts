import { ImageError } from '../errors.js'
import type { Storage } from '../storage.js'
import { type BlockOptions, blockSizes, blockStorage } from './block-storage.js'
import { rootMessage } from './faults.js'

/** Options of {@link blobStorage}. `cacheBytes` is 4 MiB by default. */
export interface BlobOptions extends BlockOptions {
  /** For messages. Default: the name of a File, else `blob`. */
  readonly label?: string | undefined
}

/**
 * A Blob, or a File that the user picked, as a read-only storage. Only what is read is loaded, in blocks that are cached,
 * so that many small reads do not each ask the browser.
 *
 * Reads reject with IMG_IO where the file cannot be read, as after it was changed or removed.
 * @throws {RangeError} for sizes in the options that cannot be.
 */
export function blobStorage(blob: Blob, options: BlobOptions = {}): Storage {
  const sizes = blockSizes(options, 4 * 1024 * 1024)
  const label = options.label ?? nameOf(blob) ?? 'blob'
  return blockStorage({
    ...sizes,
    label,
    size: blob.size,
    maxLoad: 8 * 1024 * 1024,
    readAhead: 0,
    load: (offset, length) => loadBlob(blob, label, offset, length),
  })
}

function nameOf(blob: Blob): string | undefined {
  const { name } = blob as { name?: unknown }
  return typeof name === 'string' && name !== '' ? name : undefined
}

async function loadBlob(blob: Blob, label: string, offset: number, length: number): Promise<Uint8Array> {
  let buffer: ArrayBuffer
  try {
    buffer = await blob.slice(offset, offset + length).arrayBuffer()
  } catch (cause) {
    throw new ImageError('IMG_IO', `${label} cannot be read at offset ${offset}: ${rootMessage(cause)}`, {
      source: label,
      offset,
      cause,
      hint: 'a file that was changed, moved or removed after it was picked has to be picked again',
    })
  }
  if (buffer.byteLength !== length) {
    throw new ImageError(
      'IMG_IO',
      `${label} gave ${buffer.byteLength} of ${length} bytes at offset ${offset}`,
      {
        source: label,
        offset,
      },
    )
  }
  return new Uint8Array(buffer)
}
