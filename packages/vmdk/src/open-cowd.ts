import type { Storage } from '@img/core'
import { COWD_HEADER_SECTORS, parseCowdHeader } from './cowd-header.js'
import { truncated } from './errors.js'
import { readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { chooseDirectory, type OpenedSparse, readDirectory, type SparseContext } from './open-sparse.js'
import { SparseExtent } from './sparse-extent.js'
import { directoryEntries } from './sparse-header.js'

/**
 * Opens a copy-on-write extent of ESX ("COWD", vmfsSparse): one directory, tables of 4096 entries.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED.
 */
export async function openCowd(storage: Storage, context: SparseContext): Promise<OpenedSparse> {
  const { label, size } = storage
  if (size < COWD_HEADER_SECTORS * SECTOR) throw truncated('ends inside its header', label, size)
  const { header, cowd } = parseCowdHeader(await readBytes(storage, 0, SECTOR, context), label)
  const primary = await readDirectory(storage, header.gdOffset ?? 0, directoryEntries(header), context)
  const directory = chooseDirectory(storage, header, primary, undefined, context)
  const { capacity, grainSectors, gtesPerGt, overhead } = header
  const extent = new SparseExtent(
    storage,
    { capacity, grainSectors, gtesPerGt, overhead, zeroedGrains: false, compressed: false, markers: false },
    directory,
  )
  return { extent, header, cowd, primary, redundant: undefined }
}
