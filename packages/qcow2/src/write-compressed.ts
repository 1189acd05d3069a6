import type { Allocation, IoOptions } from '@img/core'
import { COMPRESSED_HIGH, compressedShift, TWO32 } from './entries.js'
import { qcow2Error } from './errors.js'
import { furtherSectors } from './layout.js'
import type { WritableImage } from './write-image.js'
import type { L2Editor } from './write-l2.js'

/**
 * Room for one guest cluster in compressed form, packed behind the one before. What the cluster held stays until the new
 * data is mapped. Specification: Compressed Clusters Descriptor.
 * @param offset first guest byte of the cluster
 * @param length bytes of the compressed data
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE where the mapping cannot address the room; as writing.
 */
export async function allocateCompressed(
  target: WritableImage,
  l2: L2Editor,
  offset: number,
  length: number,
  options?: IoOptions,
): Promise<Allocation> {
  const { clusterSize, allocator, header, storage } = target
  await target.begin()
  const cluster = offset / clusterSize
  const shift = compressedShift(header.clusterBits)
  // The table first: making one takes clusters, too.
  await l2.place(cluster, options)
  const host = await allocator.takeBytes(length)
  if (host + length > 2 ** shift * TWO32) {
    await allocator.releaseBytes(host, length)
    const message = `compressed data cannot be addressed at ${host}`
    const hint = 'use a smaller cluster_size, or no compression'
    throw qcow2Error('IMG_UNSUPPORTED_SIZE', message, storage.label, host, hint)
  }
  target.guard.assertData(host, length)
  target.expectBytes(host, length)
  return {
    storage,
    hostOffset: host,
    length: Math.min(clusterSize, header.size - offset),
    async publish() {
      const place = await l2.place(cluster)
      const old = l2.decode(place, 0, cluster)
      if (old.host >= 0) {
        const bytes = old.kind === 'compressed' ? old.length : clusterSize
        await allocator.free([{ offset: old.host, length: bytes }])
      }
      const sectors = furtherSectors(host, length) * 2 ** shift
      place.words[place.at] = COMPRESSED_HIGH + sectors + Math.floor(host / TWO32)
      place.words[place.at + 1] = host % TWO32
      if (l2.words === 4) place.words.set([0, 0], place.at + 2)
      l2.touch(place, 1)
      target.mapped()
    },
  }
}
