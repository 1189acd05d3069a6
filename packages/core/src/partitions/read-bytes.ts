import type { PartitionedDisk } from '../partitions.js'
import type { IoOptions } from '../storage.js'

/** Reads a range whole. */
export async function readBytes(
  disk: PartitionedDisk,
  offset: number,
  length: number,
  options?: IoOptions,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  await disk.read(offset, bytes, options)
  return bytes
}
