import { type IoOptions, isZero, type Storage, storageFrom } from '@img/core'
import { corrupt, ovaError } from './errors.js'
import { MAX_INFLATED_BYTES } from './limits.js'

const PAGE = 65536
const STEP: number = 1024 * 1024

/**
 * Decompresses a gzip file into memory, pages of zeros left out: a disk inside is read here and there, and gzip only front to
 * back. DSP0243, 7.1, "compression".
 * @throws {ImageError} IMG_CORRUPT; IMG_UNSUPPORTED_SIZE where there is more than memory is given to.
 */
export async function inflate(file: Storage, options: IoOptions): Promise<Storage> {
  const { label } = file
  const pages = new Map<number, Uint8Array>()
  let page: Uint8Array = new Uint8Array(PAGE)
  let size = 0
  const keep = (): void => {
    const index = Math.ceil(size / PAGE) - 1
    if (isZero(page)) return
    if ((pages.size + 1) * PAGE > MAX_INFLATED_BYTES) {
      throw ovaError(
        'IMG_UNSUPPORTED_SIZE',
        `holds more than ${MAX_INFLATED_BYTES} bytes once decompressed`,
        label,
        undefined,
        'unpack the package, and decompress the file with gunzip',
      )
    }
    pages.set(index, page)
    page = new Uint8Array(PAGE)
  }
  for await (const bytes of decompressed(file, options)) {
    for (let at = 0; at < bytes.length; ) {
      const filled = size % PAGE
      const part = bytes.subarray(at, at + PAGE - filled)
      page.set(part, filled)
      at += part.length
      size += part.length
      if (size % PAGE === 0) keep()
    }
  }
  if (size % PAGE !== 0) {
    page.fill(0, size % PAGE)
    keep()
  }
  return storageFrom({
    label,
    size,
    cacheBytes: 0,
    read(offset, length) {
      const bytes = new Uint8Array(length)
      for (let at = offset; at < offset + length; ) {
        const within = at % PAGE
        const step = Math.min(PAGE - within, offset + length - at)
        const found = pages.get(Math.floor(at / PAGE))
        if (found !== undefined) bytes.set(found.subarray(within, within + step), at - offset)
        at += step
      }
      return bytes
    },
    close: () => pages.clear(),
  })
}

async function* decompressed(file: Storage, options: IoOptions): AsyncGenerator<Uint8Array> {
  let at = 0
  let failed: unknown
  const input = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        options.signal?.throwIfAborted()
        const bytes = new Uint8Array(Math.min(STEP, file.size - at))
        if (bytes.length === 0) return controller.close()
        await file.read(at, bytes, options)
        at += bytes.length
        controller.enqueue(bytes)
      } catch (error) {
        failed = error
        controller.error(error)
      }
    },
  })
  const reader = input.pipeThrough(new DecompressionStream('gzip')).getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw failed ?? corrupt(`is no valid gzip file: ${String((error as Error).message)}`, file.label)
      })
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}
