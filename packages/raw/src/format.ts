import {
  alignUp,
  type Driver,
  defineFormat,
  type Format,
  ImageError,
  isWritable,
  type OpenContext,
  type ResizeOptions,
  type Storage,
  type WritableStorage,
} from '@img/core'
import { createRaw, measureRaw, preallocate, streamRaw } from './create.js'
import { RawMap } from './mapping.js'
import { createOptions, openOptions } from './options.js'
import { readRawStream } from './stream.js'

const sector = 512

/**
 * Opens a raw disk. Its size is the file's, rounded up to whole sectors, which read as zeros past the end of the file.
 */
async function openRaw(storage: Storage, context: OpenContext): Promise<Driver> {
  context.signal?.throwIfAborted()
  const base = (context.options.offset as number | undefined) ?? 0
  const exact = context.options.size as number | undefined
  if (base + (exact ?? 0) > storage.size) {
    throw new ImageError('IMG_BAD_OPTION', `${storage.label} ends at ${storage.size}, before the disk does`, {
      format: 'raw',
      source: storage.label,
    })
  }
  if (context.writable && !isWritable(storage)) {
    throw new ImageError('IMG_READ_ONLY', `${storage.label} cannot be written`, {
      format: 'raw',
      source: storage.label,
    })
  }
  let size = exact ?? alignUp(storage.size - base, sector)
  return {
    get size() {
      return size
    },
    map: new RawMap(storage, base),
    holes: 'zero',
    info: () => ({}),
    ...(context.writable &&
      isWritable(storage) &&
      exact === undefined && {
        async resize(wanted: number, options: ResizeOptions) {
          await resizeRaw(storage, base, wanted, options)
          size = alignUp(wanted, sector)
        },
      }),
  }
}

async function resizeRaw(
  storage: WritableStorage,
  base: number,
  size: number,
  options: ResizeOptions,
): Promise<void> {
  const { preallocation = 'off', signal } = options
  if (preallocation === 'metadata') {
    throw new ImageError('IMG_UNSUPPORTED', "Unsupported preallocation mode 'metadata'", {
      format: 'raw',
      source: storage.label,
    })
  }
  const before = storage.size
  const grown = base + size - before
  if (grown < 0 && preallocation !== 'off') {
    throw new ImageError('IMG_BAD_OPTION', 'Preallocation can only be used for growing an image', {
      format: 'raw',
    })
  }
  await storage.truncate(base + size, { signal })
  // A device takes a smaller size without a word, and stays as it is.
  if (storage.size !== base + size) {
    throw new ImageError('IMG_UNSUPPORTED', `${storage.label} is a device, which keeps its size`, {
      format: 'raw',
      source: storage.label,
    })
  }
  if (grown <= 0 || preallocation === 'off') return
  try {
    await preallocate(storage, before, grown, preallocation, { signal })
  } catch (error) {
    await storage.truncate(before)
    throw error
  }
}

/** Raw disk images: the bytes of the disk and nothing else. */
export const raw: Format = defineFormat({
  apiVersion: 1,
  name: 'raw',
  title: 'Raw disk image',
  extensions: ['.raw', '.img'],
  magic: [],
  openOptions,
  open: openRaw,
  createOptions,
  create: createRaw,
  stream: streamRaw,
  readStream: readRawStream,
  measure: measureRaw,
})
