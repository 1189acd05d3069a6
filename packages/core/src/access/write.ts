import { alignDown, alignUp } from '../bytes.js'
import type { Allocation, ClusterZeroOptions } from '../cluster.js'
import { ImageError } from '../errors.js'
import type { IoOptions, Storage } from '../storage.js'
import { isZero, zeroBlock } from '../zero.js'
import { type Layer, readLayer } from './read.js'

function writer(storage: Storage): Required<Pick<Storage, 'write'>> & Storage {
  if (storage.write === undefined)
    throw new ImageError('IMG_READ_ONLY', `${storage.label} is read-only`, { source: storage.label })
  return storage as Required<Pick<Storage, 'write'>> & Storage
}

/** Writes bytes into a storage of an image, at once where that can be. */
export async function put(
  storage: Storage,
  offset: number,
  bytes: Uint8Array,
  options?: IoOptions,
): Promise<void> {
  if (bytes.length === 0 || storage.writeSync?.(offset, bytes)) return
  await writer(storage).write(offset, bytes, options)
}

/**
 * Writes guest bytes through the driver's allocator: new room is filled whole (copy-on-write of what the guest saw
 * there before), and only then made part of the mapping.
 */
export async function writeLayer(
  layer: Layer,
  offset: number,
  bytes: Uint8Array,
  options?: IoOptions,
): Promise<void> {
  const { map } = layer.driver
  for (let at = 0; at < bytes.length; ) {
    options?.signal?.throwIfAborted()
    const room = (await map.allocate?.(offset + at, bytes.length - at, options)) as Allocation
    const part = bytes.subarray(at, at + room.length)
    if (room.fill !== undefined) await fillNew(layer, room, offset + at, part, options)
    else await put(room.storage, room.hostOffset, part, options)
    await room.publish?.()
    at += room.length
  }
}

/** Writes `part` into new room, with what stood before and after it in the same units. */
async function fillNew(
  layer: Layer,
  room: Allocation,
  offset: number,
  part: Uint8Array,
  options?: IoOptions,
): Promise<void> {
  const fill = room.fill as number
  const head = offset - alignDown(offset, fill)
  const end = offset + part.length
  const tail = alignUp(end, fill) - end
  if (head === 0 && tail === 0) return put(room.storage, room.hostOffset, part, options)
  const whole = new Uint8Array(head + part.length + tail)
  await readLayer(layer, offset - head, whole.subarray(0, head), options)
  const visible = Math.max(0, Math.min(tail, layer.driver.size - end))
  await readLayer(layer, end, whole.subarray(head + part.length, head + part.length + visible), options)
  whole.set(part, head)
  await put(room.storage, room.hostOffset - head, whole, options)
}

/** Makes a guest range read as zeros: whole clusters by the driver where it can, the rest written. */
export async function writeZeroesLayer(
  layer: Layer,
  offset: number,
  length: number,
  options?: ClusterZeroOptions,
): Promise<void> {
  const { map } = layer.driver
  const end = offset + length
  // The last cluster may be cut by the end of the disk: zeroing up to there zeroes it whole.
  const limit = end === layer.driver.size ? end : alignDown(end, map.clusterSize)
  const start = Math.min(alignUp(offset, map.clusterSize), end)
  const marked = options?.explicit !== true || map.zeroesExplicitly === true
  if (map.zero === undefined || !marked || start >= limit)
    return writeZeroBytes(layer, offset, length, options)
  await writeZeroBytes(layer, offset, start - offset, options)
  await map.zero(start, limit - start, options)
  await writeZeroBytes(layer, limit, end - limit, options)
}

async function writeZeroBytes(
  layer: Layer,
  offset: number,
  length: number,
  options?: ClusterZeroOptions,
): Promise<void> {
  for (let at = 0; at < length; ) {
    // Only the first and the last piece may end inside a sector: no other sector is written in two parts.
    const part = Math.min(zeroBlock.length - ((offset + at) % zeroBlock.length), length - at)
    if (options?.explicit === true || !(await readsAsZeros(layer, offset + at, part, options)))
      await writeLayer(layer, offset + at, zeroBlock.subarray(0, part), options)
    at += part
  }
}

/** What reads as zeros already needs no room. */
async function readsAsZeros(
  layer: Layer,
  offset: number,
  length: number,
  options?: IoOptions,
): Promise<boolean> {
  const now = new Uint8Array(length)
  await readLayer(layer, offset, now, options)
  return isZero(now)
}

/** Gives whole clusters of a range back; parts of clusters are kept. */
export async function discardLayer(
  layer: Layer,
  offset: number,
  length: number,
  options?: IoOptions,
): Promise<void> {
  const { map, size } = layer.driver
  const end = offset + length
  const start = alignUp(offset, map.clusterSize)
  const limit = end === size ? end : alignDown(end, map.clusterSize)
  if (start < limit) await map.discard?.(start, limit - start, options)
}
