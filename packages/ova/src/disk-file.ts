import { type IoOptions, type Storage, storageFrom } from '@img/core'
import type { OvfDisk, OvfFile } from './descriptor.js'
import { ovaError } from './errors.js'
import { closeParts, type Package, type StoredPart } from './package.js'

/**
 * Opens the bytes of a disk's image: in place where they are stored in one piece, joined where in chunks, decompressed into
 * memory where the file was compressed whole. Closing it closes what it opened.
 * @throws {ImageError} IMG_REFERENCE_MISSING, IMG_REFERENCE_DENIED; IMG_CORRUPT where a digest is wrong and `verify` is set;
 * IMG_UNSUPPORTED.
 */
export async function openDiskFile(
  opened: Package,
  disk: OvfDisk & { readonly file: OvfFile },
  options: IoOptions & { readonly verify: boolean },
): Promise<Storage> {
  const { file } = disk
  const { label } = opened
  if (file.compression !== 'identity' && file.compression !== 'gzip') {
    throw ovaError('IMG_UNSUPPORTED', `${file.href} is compressed with ${file.compression}`, label)
  }
  const parts = await opened.open(file)
  if (parts === undefined) {
    throw ovaError(
      'IMG_REFERENCE_MISSING',
      `the file ${JSON.stringify(file.href)} is not in the package`,
      label,
    )
  }
  try {
    if (options.verify) for (const part of parts) await opened.verify(part)
    const whole = join(parts)
    if (file.compression === 'identity') return whole
    const { inflate } = await import('./inflate.js')
    const inflated = await inflate(whole, options)
    await closeParts(parts)
    return inflated
  } catch (error) {
    await closeParts(parts)
    throw error
  }
}

/** Parts one after the other as one storage. */
function join(parts: readonly StoredPart[]): Storage {
  const [only, second] = parts
  if (only !== undefined && second === undefined) return only.storage
  const starts: number[] = []
  let size = 0
  for (const { storage } of parts) {
    starts.push(size)
    size += storage.size
  }
  const label = only?.storage.label.replace(/\.\d{9}$/, '') ?? ''
  return storageFrom({
    label,
    size,
    async read(offset, length, options) {
      const bytes = new Uint8Array(length)
      for (const [index, { storage }] of parts.entries()) {
        const start = starts[index] as number
        const from = Math.max(offset, start)
        const to = Math.min(offset + length, start + storage.size)
        if (from < to) await storage.read(from - start, bytes.subarray(from - offset, to - offset), options)
      }
      return bytes
    },
    close: () => closeParts(parts),
  })
}
