import { alignUp, ImageError, type IoOptions, readU64BE, viewOf } from '@img/core'
import { type Header, headerBytes, serialiseHeader } from './header.js'
import { SECTOR } from './limits.js'
import type { WritableImage } from './write-image.js'

/**
 * Writes another header into the first cluster, extensions and backing file name included. A new name is put where the old
 * header has nothing, and is durable before the first sector points at it: a power cut leaves the old header or the new.
 * @throws {ImageError} IMG_NO_SPACE where it does not fit into the cluster; nothing is changed then.
 */
export async function rewriteHeader(
  target: WritableImage,
  header: Header,
  options?: IoOptions,
): Promise<void> {
  const { storage, clusterSize } = target
  if (headerBytes(header) > clusterSize) {
    throw new ImageError('IMG_NO_SPACE', `${storage.label}: No space left in the file header`, {
      format: 'qcow2',
      source: storage.label,
    })
  }
  await target.settle(options)
  const now = new Uint8Array(Math.min(clusterSize, storage.size))
  await storage.read(0, now, options)
  const oldEnd = Math.max(headerBytes(target.header), nameEnd(now))
  const name = header.backingFile?.length ?? 0
  const fixedEnd = headerBytes(header) - name
  const apart = alignUp(Math.max(oldEnd, fixedEnd), SECTOR)
  const isApart = name > 0 && apart + name <= clusterSize
  const bytes = serialiseHeader(header, isApart ? apart : undefined)
  // What the old header had is not left behind.
  const whole = new Uint8Array(Math.min(clusterSize, Math.max(bytes.length, oldEnd)))
  whole.set(bytes)
  if (isApart) {
    await storage.write(apart, whole.subarray(apart), options)
    await storage.flush(options)
  }
  const first = Math.min(whole.length, isApart ? alignUp(fixedEnd, SECTOR) : whole.length)
  await storage.write(0, whole.subarray(0, first), options)
  await storage.flush(options)
  target.image.header = header
  if (first < whole.length) {
    await storage.write(first, whole.subarray(first), options)
    await storage.flush(options)
  }
}

/** Where the backing file name ends in the bytes of a header. */
function nameEnd(bytes: Uint8Array): number {
  const at = readU64BE(viewOf(bytes), 8)
  return at === 0 ? 0 : Math.min(bytes.length, at + viewOf(bytes).getUint32(16))
}
