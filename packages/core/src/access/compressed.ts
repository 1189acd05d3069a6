import { alignDown, alignUp } from '../bytes.js'
import type { Allocation } from '../cluster.js'
import type { CompressedWriteOptions } from '../image.js'
import type { CompressionSpec } from '../image-writer.js'
import { compressHere } from './compress-here.js'
import type { Layer } from './read.js'
import { put, writeLayer } from './write.js'

/** Clusters compressed at once. */
const ahead = 16

/**
 * Writes whole clusters in compressed form, each in room of its own; clusters that do not become shorter are written as
 * they are. The range starts with a cluster, and ends with one or with the disk.
 * @throws {RangeError} for any other range.
 */
export async function writeCompressedLayer(
  layer: Layer,
  offset: number,
  bytes: Uint8Array,
  options: CompressedWriteOptions = {},
): Promise<void> {
  const { map, size } = layer.driver
  const { clusterSize } = map
  const spec = map.compression as CompressionSpec
  const { compress = compressHere, signal } = options
  const end = offset + bytes.length
  if (alignDown(offset, clusterSize) !== offset || (end !== size && alignUp(end, clusterSize) !== end)) {
    throw new RangeError(`compressed clusters are written whole: ${offset} to ${end} is not`)
  }
  for (let at = 0; at < bytes.length; at += ahead * clusterSize) {
    signal?.throwIfAborted()
    const clusters: Uint8Array[] = []
    for (let i = at; i < Math.min(bytes.length, at + ahead * clusterSize); i += clusterSize) {
      // Compressing may write over the bytes, which are the caller's; a cluster cut by the end is compressed whole.
      const whole = new Uint8Array(clusterSize)
      whole.set(bytes.subarray(i, i + clusterSize))
      clusters.push(whole)
    }
    const packed = await Promise.all(clusters.map((whole) => compress(whole, spec)))
    for (const [i, unit] of packed.entries()) {
      const from = at + i * clusterSize
      if (unit.length < clusterSize) await writeUnit(layer, offset + from, unit, options)
      else await writeLayer(layer, offset + from, bytes.subarray(from, from + clusterSize), { signal })
    }
  }
}

async function writeUnit(
  layer: Layer,
  offset: number,
  unit: Uint8Array,
  { signal }: CompressedWriteOptions,
): Promise<void> {
  const room = (await layer.driver.map.allocateCompressed?.(offset, unit.length, { signal })) as Allocation
  await put(room.storage, room.hostOffset, unit, { signal })
  await room.publish?.()
}
