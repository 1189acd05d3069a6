import { alignUp, viewOf, type WritableStorage } from '@img/core'
import { readBitmapInfo } from './bitmap-info.js'
import { bitmapsExtension } from './extensions.js'
import type { Header } from './header.js'

/** Bitmap directory entry, flags bits 0 and 1. Specification: Bitmap directory. */
const IN_USE = 1
const AUTO = 2

/**
 * Marks every enabled bitmap as not saved properly: the image is about to be written without it being kept. QEMU and its
 * backup tools then refuse to rely on it. Returns whether anything was written.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export async function markBitmapsInUse(storage: WritableStorage, header: Header): Promise<boolean> {
  const count = (await readBitmapInfo(storage, header)).length
  const extension = bitmapsExtension(header.extensions, storage.label)
  if (count === 0 || extension === undefined) return false
  // The directory was just checked.
  const bytes = new Uint8Array(extension.directorySize)
  await storage.read(extension.directoryOffset, bytes)
  const view = viewOf(bytes)
  let changed = false
  for (let at = 0; at < bytes.length; ) {
    const flags = view.getUint32(at + 12)
    if ((flags & AUTO) !== 0 && (flags & IN_USE) === 0) {
      view.setUint32(at + 12, flags | IN_USE)
      changed = true
    }
    at += alignUp(24 + view.getUint32(at + 20) + view.getUint16(at + 18), 8)
  }
  if (changed) await storage.write(extension.directoryOffset, bytes)
  return changed
}
