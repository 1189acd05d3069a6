import { ImageError, type ImageWarningCode, type IoOptions, type Storage } from '@img/core'
import type { CowdHeader } from './cowd-header.js'
import { truncated } from './errors.js'
import { type FooterOptions, findFooter } from './find-footer.js'
import { decodeEntries, readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { SparseExtent, type SparseShape } from './sparse-extent.js'
import {
  directoryEntries,
  Flag,
  hasFlag,
  isCompressed,
  parseSparseHeader,
  type SparseHeader,
  tableSectors,
} from './sparse-header.js'

/** How an extent is opened. */
export interface SparseContext extends IoOptions {
  /** Damage costs only what it hits. */
  readonly tolerant?: boolean | undefined
  /** A stream without its footer is looked through for grains. */
  readonly salvage?: boolean | undefined
  warn(message: string, code?: ImageWarningCode): void
}

/** A sparse extent with grain tables of 32-bit entries, opened. */
export interface OpenedSparse {
  readonly extent: SparseExtent
  /** As it counts: the footer's where there is one; what it comes to where the header is of ESX. */
  readonly header: SparseHeader
  /** What the header of ESX ("COWD") tells beside that; absent for hosted extents. */
  readonly cowd?: CowdHeader | undefined
  /** The two directories as they stand; undefined where there is none, or none that can be read. */
  readonly primary: Uint32Array | undefined
  readonly redundant: Uint32Array | undefined
}

/**
 * The header of a hosted sparse extent, or its footer where the header says so.
 * @throws {ImageError} as {@link parseSparseHeader}.
 */
export async function readSparseHeader(storage: Storage, options: FooterOptions): Promise<SparseHeader> {
  const { label, size } = storage
  const header = parseSparseHeader(await readBytes(storage, 0, Math.min(SECTOR, size), options), label)
  if (header.gdOffset !== undefined) return header
  const found = findFooter(storage, options)
  const scannable = options.salvage === true && isCompressed(header) && hasFlag(header.flags, Flag.markers)
  if (!scannable) return found
  return found.catch((error: unknown) => {
    if (ImageError.is(error, 'IMG_TRUNCATED')) return header
    throw error
  })
}

/**
 * Opens a hosted sparse extent. Where the grain directory is damaged and there is a second one, that is used, with a warning.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export async function openSparse(storage: Storage, context: SparseContext): Promise<OpenedSparse> {
  const header = await readSparseHeader(storage, context)
  const { label, size } = storage
  if (header.overhead * SECTOR > size && !context.tolerant) {
    throw truncated(`ends inside its metadata of ${header.overhead} sectors`, label, size)
  }
  const shape: SparseShape = {
    capacity: header.capacity,
    grainSectors: header.grainSectors,
    gtesPerGt: header.gtesPerGt,
    overhead: header.overhead,
    zeroedGrains: header.version >= 2 && hasFlag(header.flags, Flag.zeroedGrain),
    compressed: isCompressed(header),
    markers: hasFlag(header.flags, Flag.markers),
  }
  if (header.gdOffset === undefined) {
    const { scanStream } = await import('./scan-stream.js')
    const { extent, grains } = await scanStream(storage, header, shape, context)
    context.warn(`${label}: the footer is lost; ${grains} grains were found by their markers`, 'WARN_DAMAGED')
    return { extent, header, primary: undefined, redundant: undefined }
  }
  const entries = directoryEntries(header)
  const primary = await readDirectory(storage, header.gdOffset ?? 0, entries, context)
  const redundant = hasFlag(header.flags, Flag.redundantTable)
    ? await readDirectory(storage, header.rgdOffset, entries, context)
    : undefined
  const directory = chooseDirectory(storage, header, primary, redundant, context)
  return { extent: new SparseExtent(storage, shape, directory), header, primary, redundant }
}

/** A directory; undefined where it does not fit the file. */
export async function readDirectory(
  storage: Storage,
  sector: number,
  entries: number,
  options: IoOptions,
): Promise<Uint32Array | undefined> {
  if (entries === 0) return new Uint32Array(0)
  if (sector === 0 || sector * SECTOR + entries * 4 > storage.size) return undefined
  return decodeEntries(await readBytes(storage, sector * SECTOR, entries * 4, options))
}

export function chooseDirectory(
  storage: Storage,
  header: SparseHeader,
  primary: Uint32Array | undefined,
  redundant: Uint32Array | undefined,
  context: SparseContext,
): Uint32Array {
  const { label, size } = storage
  const room = Math.floor(size / SECTOR) - tableSectors(header)
  const bad = (sector: number | undefined): boolean => sector === undefined || (sector !== 0 && sector > room)
  const chosen = (primary ?? redundant)?.slice()
  if (chosen === undefined) {
    throw truncated('has no grain directory inside the file', label, (header.gdOffset ?? 0) * SECTOR)
  }
  let repaired = primary === undefined
  for (const [index, sector] of chosen.entries()) {
    if (!bad(sector)) continue
    const other = redundant?.[index]
    if (bad(other) || other === 0) {
      // Only its own range is lost: whoever reads there is told.
      if (context.tolerant) continue
      throw truncated(`ends before grain table ${index} at sector ${sector}`, label, sector * SECTOR)
    }
    chosen[index] = other as number
    repaired = true
  }
  if (repaired)
    context.warn(`${label}: the grain directory is damaged; its redundant copy is used`, 'WARN_DAMAGED')
  return chosen
}
