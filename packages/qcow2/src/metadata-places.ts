import { bitmapsExtension, encryptionExtension } from './extensions.js'
import { Autoclear } from './features.js'
import type { WritableImage } from './write-image.js'

/**
 * Tells the guard of an image where all of its metadata lies.
 * @throws {ImageError} IMG_CORRUPT where two of them lie in one place.
 */
export async function registerMetadata(target: WritableImage): Promise<void> {
  const { guard, header, clusterSize, refcounts, storage } = target
  guard.add('header', 0, clusterSize)
  guard.add('active L1 table', header.l1TableOffset, header.l1Size * 8)
  guard.add('refcount table', refcounts.tableOffset, refcounts.tableClusters * clusterSize)
  for (const offset of refcounts.blockOffsets()) guard.add('refcount block', offset, clusterSize)
  if (header.nbSnapshots > 0) guard.add('snapshot table', header.snapshotsOffset, snapshotTableBytes(target))
  for (const { l1TableOffset, l1Size } of target.snapshots) {
    guard.add('L1 table of a snapshot', l1TableOffset, l1Size * 8)
  }
  const bitmaps = bitmapsExtension(header.extensions, storage.label)
  if (bitmaps !== undefined && header.autoclearFeatures.has(Autoclear.bitmaps)) {
    guard.add('bitmap directory', bitmaps.directoryOffset, bitmaps.directorySize)
  }
  const encryption = encryptionExtension(header.extensions, storage.label)
  if (encryption !== undefined) guard.add('encryption header', encryption.offset, encryption.length)
  for await (const { offset } of target.activeTables()) guard.add('active L2 table', offset, clusterSize)
}

/** Bytes of the snapshot table, without padding behind the last entry. */
export function snapshotTableBytes({
  header,
  snapshots,
}: Pick<WritableImage, 'header' | 'snapshots'>): number {
  const last = snapshots.at(-1)
  return last === undefined ? 0 : last.entry.offset + last.entry.length - header.snapshotsOffset
}
