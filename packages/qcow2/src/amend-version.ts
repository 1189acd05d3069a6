import { type AmendContext, alignUp, type ImageError, viewOf, writeU64BE } from '@img/core'
import { rewriteHeader } from './amend-header.js'
import { expandZeros } from './amend-zeros.js'
import { readBitmapInfo } from './bitmap-info.js'
import { TWO32 } from './entries.js'
import { qcow2Error } from './errors.js'
import { ExtensionType, makeFeatureNames } from './extensions.js'
import { knownFeatures } from './features.js'
import { headerBytes } from './header.js'
import { rawEntries, replaceTable } from './snapshot-write.js'
import type { WritableImage } from './write-image.js'

/** Bytes of a snapshot table entry before extra data; of extra data that version 3 demands. Specification: Snapshots. */
const ENTRY_BYTES = 40
const EXTRA_BYTES = 16

/** From version 2 to 3. Snapshots get the extra data that version 3 demands, before the header says so. */
export async function upgrade(target: WritableImage, { signal }: AmendContext): Promise<void> {
  const { snapshots, header } = target
  if (snapshots.some(({ extraData }) => extraData.length < EXTRA_BYTES)) {
    const entries = await rawEntries(target, snapshots, { signal })
    await replaceTable(
      target,
      entries.map((entry) => withExtraData(entry, header.size)),
      { signal },
    )
    await target.settle({ signal })
  }
  const changed = { ...target.header, version: 3 as const }
  const names = makeFeatureNames(knownFeatures)
  const named = { ...changed, extensions: [...changed.extensions, names] }
  const fits =
    header.clusterBits > 12 &&
    headerBytes(named) <= target.clusterSize &&
    !changed.extensions.some(({ type }) => type === ExtensionType.featureNames)
  await rewriteHeader(target, fits ? named : changed, { signal })
}

/** Adds the fields for a large VM state and for the size of the disk. */
function withExtraData(entry: Uint8Array, size: number): Uint8Array {
  const view = viewOf(entry)
  const had = view.getUint32(36)
  if (had >= EXTRA_BYTES) return entry
  const names = view.getUint16(12) + view.getUint16(14)
  const bytes = new Uint8Array(alignUp(ENTRY_BYTES + EXTRA_BYTES + names, 8))
  bytes.set(entry.subarray(0, ENTRY_BYTES + had))
  const into = viewOf(bytes)
  if (had < 8) writeU64BE(into, ENTRY_BYTES, view.getUint32(32))
  writeU64BE(into, ENTRY_BYTES + 8, size)
  into.setUint32(36, EXTRA_BYTES)
  const from = ENTRY_BYTES + had
  bytes.set(entry.subarray(from, from + names), ENTRY_BYTES + EXTRA_BYTES)
  return bytes
}

/**
 * Refuses what version 2 cannot express.
 * @param size virtual size in bytes that the image is to have then
 */
export async function assertDowngrade(target: WritableImage, size: number): Promise<void> {
  const { header, snapshots, storage } = target
  if (target.external) throw cannot(target, 'Cannot downgrade an image with a data file')
  if (header.incompatibleFeatures.size > 0) {
    const bits = [...header.incompatibleFeatures].reduce((sum, bit) => sum + 2 ** bit, 0)
    throw cannot(target, `Cannot downgrade an image with incompatible features 0x${bits.toString(16)} set`)
  }
  // The size of a VM state has a field of 32 bits there.
  if (snapshots.some(({ vmStateSize, virtualSize }) => vmStateSize >= TWO32 || virtualSize !== size)) {
    throw cannot(target, 'Internal snapshots prevent downgrade of image')
  }
  if ((await readBitmapInfo(storage, header)).length > 0) {
    throw cannot(
      target,
      'Persistent bitmaps prevent downgrade of image',
      'remove them with `img bitmap --remove`',
    )
  }
}

/** From version 3 to 2: zero clusters are made what version 2 can say, and then the header is written. */
export async function downgrade(target: WritableImage, context: AmendContext): Promise<void> {
  await expandZeros(target, context)
  const { header } = target
  const extensions = header.extensions.filter(
    ({ type }) => type !== ExtensionType.featureNames && type !== ExtensionType.bitmaps,
  )
  await rewriteHeader(
    target,
    {
      ...header,
      version: 2,
      extensions,
      compatibleFeatures: new Set(),
      autoclearFeatures: new Set(),
      compressionType: 0,
      unknownFields: new Uint8Array(0),
    },
    context,
  )
}

/** IMG_UNSUPPORTED about an image. */
function cannot(target: WritableImage, message: string, hint?: string): ImageError {
  return qcow2Error('IMG_UNSUPPORTED', message, target.storage.label, undefined, hint)
}
