import { ImageError } from '../errors.js'
import type { DiskImage } from '../image.js'
import type { IoOptions } from '../storage.js'

/**
 * Walks through the tables of the upper `depth` layers of a chain, and asks whether all that they point at is in the files.
 * What only reading can tell (a compressed unit that is damaged, a disk that fails) is not found.
 * @throws {ImageError} IMG_TRUNCATED, IMG_CORRUPT; as `extents`.
 */
export async function assertStored(image: DiskImage, depth: number, { signal }: IoOptions): Promise<void> {
  for await (const extent of image.extents({ signal })) {
    signal?.throwIfAborted()
    if (extent.depth >= depth || (extent.kind !== 'data' && extent.kind !== 'compressed')) continue
    const { storage, hostOffset } = extent
    // A compressed unit is told of with its padding, which need not be there.
    const end = hostOffset + (extent.kind === 'data' ? extent.length : 1)
    if (end <= storage.size) continue
    throw new ImageError(
      'IMG_TRUNCATED',
      `${storage.label} ends at byte ${storage.size}: data of guest offset ${extent.offset} ends past that`,
      {
        source: storage.label,
        offset: hostOffset,
        hint: 'the file is cut short: copy it again from its source',
      },
    )
  }
}
