import type { Driver, FormatInfo, OpenContext, Reference, Storage } from '@img/core'
import { Bitmap } from './bitmap.js'
import { cowError } from './errors.js'
import { type Header, readHeader, SECTOR } from './header.js'
import { CowMap } from './mapping.js'

/** What an opened image is made of. */
export interface CowParts {
  readonly storage: Storage
  readonly header: Header
  readonly bitmap: Bitmap
  readonly backing: Reference | undefined
}

/**
 * Opens an image. Its backing file is only named.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_READ_ONLY.
 */
export async function openCow(storage: Storage, context: OpenContext): Promise<Driver> {
  const header = await readHeader(storage, context)
  const backing: Reference | undefined =
    header.backing === undefined ? undefined : { kind: 'backing', name: header.backing }
  const common = { size: header.size, backing, info: () => describeImage(header) }
  if (context.inspect && !context.writable) {
    const lookup = (): never => {
      throw cowError('IMG_UNSUPPORTED', 'it was opened only to be described', storage.label)
    }
    return { ...common, map: { clusterSize: SECTOR, lookup } }
  }
  const bytes = new Uint8Array(header.bitmapBytes)
  if (storage.readSync?.(header.bitmapOffset, bytes) !== true) {
    await storage.read(header.bitmapOffset, bytes, context)
  }
  const bitmap = new Bitmap(bytes, header.size / SECTOR)
  const parts: CowParts = { storage, header, bitmap, backing }
  if (context.writable) {
    // Loaded when needed: most runs only read.
    const { openWritable } = await import('./write-driver.js')
    return openWritable(parts)
  }
  return {
    ...common,
    map: new CowMap(storage, header, bitmap),
    async check(options) {
      const { checkImage } = await import('./check.js')
      return checkImage(parts, undefined, options)
    },
  }
}

/** What an image tells of itself. */
export function describeImage({ abi, backing, mtime }: Header): FormatInfo {
  return {
    clusterSize: SECTOR,
    dirty: false,
    ...(backing !== undefined && { specific: { 'backing-file-mtime': mtime } }),
    extra: { 'header-layout': abi },
  }
}
