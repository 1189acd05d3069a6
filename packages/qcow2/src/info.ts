import type { FormatInfo, IoOptions, Storage } from '@img/core'
import { BitmapFlag, readBitmapEntries } from './bitmap-info.js'
import { ExtensionType, featureNames, stringExtension } from './extensions.js'
import { Autoclear, Compatible, FeatureType, Incompatible, unknownFeatures } from './features.js'
import { CompressionType, CryptMethod, type Header } from './header.js'
import { readLuksInfo } from './luks-info.js'

/**
 * What `info` tells of an image: `specific` is key for key what qemu-img 7.2 prints, in its order; `extra` is what it
 * does not show. Nothing outside the image file is read.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED for damaged bitmap or encryption metadata.
 */
export async function describeImage(
  storage: Storage,
  header: Header,
  options?: IoOptions,
): Promise<FormatInfo> {
  const { incompatibleFeatures, extensions, cryptMethod } = header
  const v3 = header.version === 3
  const bitmaps = v3 ? await readBitmapEntries(storage, header, options) : []
  const dataFile = stringExtension(extensions, ExtensionType.dataFile)
  const encrypt =
    cryptMethod === CryptMethod.luks
      ? await readLuksInfo(storage, header, options)
      : cryptMethod === CryptMethod.aes
        ? { format: 'aes' }
        : undefined
  const hasDataFile = incompatibleFeatures.has(Incompatible.dataFile)
  return {
    clusterSize: 2 ** header.clusterBits,
    encrypted: cryptMethod !== CryptMethod.none,
    dirty: incompatibleFeatures.has(Incompatible.dirty),
    specific: {
      compat: v3 ? '1.1' : '0.10',
      'compression-type': header.compressionType === CompressionType.zstd ? 'zstd' : 'zlib',
      ...(v3 && { 'lazy-refcounts': header.compatibleFeatures.has(Compatible.lazyRefcounts) }),
      ...(bitmaps.length > 0 && {
        bitmaps: bitmaps.map(({ flags, name, granularity }) => ({
          flags: [
            ...(flags & BitmapFlag.inUse ? ['in-use'] : []),
            ...(flags & BitmapFlag.auto ? ['auto'] : []),
          ],
          name,
          granularity,
        })),
      }),
      'refcount-bits': 2 ** header.refcountOrder,
      ...(v3 && dataFile !== undefined && { 'data-file': dataFile }),
      ...(encrypt && { encrypt }),
      ...(hasDataFile && { 'data-file-raw': header.autoclearFeatures.has(Autoclear.rawDataFile) }),
      ...(v3 && {
        corrupt: incompatibleFeatures.has(Incompatible.corrupt),
        'extended-l2': incompatibleFeatures.has(Incompatible.extendedL2),
      }),
    },
    extra: describeExtra(header),
  }
}

const extensionNames: Readonly<Record<number, string>> = {
  [ExtensionType.backingFormat]: 'backing file format',
  [ExtensionType.featureNames]: 'feature name table',
  [ExtensionType.bitmaps]: 'bitmaps',
  [ExtensionType.encryption]: 'full disk encryption header',
  [ExtensionType.dataFile]: 'external data file name',
}

function describeExtra(header: Header): Readonly<Record<string, unknown>> {
  const { extensions, unknownFields } = header
  const unknownCompatible = unknownFeatures(FeatureType.compatible, header.compatibleFeatures)
  const unknownAutoclear = unknownFeatures(FeatureType.autoclear, header.autoclearFeatures)
  const names = featureNames(extensions)
  return {
    'header-extensions': extensions.map(({ type, data }) => ({
      type: `0x${type.toString(16).padStart(8, '0')}`,
      ...(extensionNames[type] !== undefined && { name: extensionNames[type] }),
      length: data.length,
      ...(extensionNames[type] === undefined && { data: hexBytes(data.subarray(0, 64)) }),
    })),
    ...(names.length > 0 && { 'feature-names': names }),
    ...(unknownCompatible.length > 0 && { 'unknown-compatible-features': unknownCompatible }),
    ...(unknownAutoclear.length > 0 && { 'unknown-autoclear-features': unknownAutoclear }),
    ...(unknownFields.length > 0 && { 'unknown-header-fields': hexBytes(unknownFields) }),
  }
}

function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
