import {
  alignUp,
  ImageError,
  type IoOptions,
  type ResizeOptions,
  type Storage,
  type WritableStorage,
} from '@img/core'
import type { Allocator } from './allocate.js'
import { type DynamicDisk, toBigEndian, unused } from './dynamic-disk.js'
import { fault } from './faults.js'
import { type Footer, parseFooter, withSize } from './footer.js'
import { resizedSizing, sectorSize } from './geometry.js'
import { maxEntries, parseHeader, withTable } from './header.js'
import { put, zeroRange } from './put.js'

/**
 * Refuses what cannot be done.
 * @throws {ImageError} IMG_UNSUPPORTED for a smaller disk or preallocation, IMG_BAD_OPTION for a part of a sector.
 */
export function checkResize(storage: Storage, before: number, size: number, options: ResizeOptions): void {
  if (size < before) throw fault('IMG_UNSUPPORTED', storage, 'a VHD cannot be made smaller')
  if (size % sectorSize !== 0)
    throw new ImageError('IMG_BAD_OPTION', `${size} bytes are not whole sectors of ${sectorSize}`, {
      format: 'vpc',
    })
  if ((options.preallocation ?? 'off') !== 'off')
    throw fault('IMG_UNSUPPORTED', storage, `Unsupported preallocation mode '${options.preallocation}'`)
}

/**
 * Makes a fixed disk larger. Its footer is the only one: it moves to the new end before the old one, which is then inside
 * the disk, becomes zeros; last, its new size is written over it, in one sector. A cut leaves the old size or the new one.
 */
export async function growFixed(
  storage: WritableStorage,
  footer: Footer,
  endOffset: number,
  before: number,
  size: number,
  options: IoOptions,
): Promise<{ readonly footer: Uint8Array; readonly endOffset: number }> {
  const bytes = withSize(footer.bytes, resizedSizing(size, footer.creatorApp))
  const moved = Math.max(size, endOffset)
  if (moved > endOffset) {
    await put(storage, moved, footer.bytes, options)
    await storage.flush(options)
  }
  // The file may hold more than the disk showed of it, and now the old footer.
  const stale = Math.min(size, endOffset + sectorSize)
  if (stale > before) await zeroRange(storage, before, stale - before, options)
  await storage.flush(options)
  await put(storage, moved, bytes, options)
  await storage.flush(options)
  return { footer: bytes, endOffset: moved }
}

/** Makes a dynamic disk larger: its table first, then both footers. A cut leaves the old size or the new one. */
export async function growDynamic(
  disk: DynamicDisk,
  storage: WritableStorage,
  allocator: Allocator,
  size: number,
  options: IoOptions,
): Promise<void> {
  const { creatorApp } = parseFooter(disk.footer)
  const footer = withSize(disk.footer, resizedSizing(size, creatorApp))
  await allocator.prepare(options)
  await allocator.flush(options)
  const entries = Math.ceil(size / disk.blockSize)
  if (entries > disk.header.entries) await growTable(disk, storage, allocator, entries, options)
  await put(storage, 0, footer, options)
  disk.footer = footer
  await storage.flush(options)
  await put(storage, allocator.end, footer, options)
  await storage.flush(options)
  disk.size = size
}

/** The table grows within its last sector, or moves to where the footer was. */
async function growTable(
  disk: DynamicDisk,
  storage: WritableStorage,
  allocator: Allocator,
  entries: number,
  options: IoOptions,
): Promise<void> {
  const { header, table } = disk
  if (entries > maxEntries) {
    throw fault('IMG_UNSUPPORTED_SIZE', storage, `${entries} blocks are more than are supported`)
  }
  const grown = new Uint32Array(entries).fill(unused)
  grown.set(table)
  const room = alignUp(entries * 4, sectorSize)
  let { tableOffset } = header
  if (room > alignUp(table.length * 4, sectorSize)) {
    tableOffset = allocator.end
    const padded = new Uint8Array(room).fill(0xff)
    padded.set(toBigEndian(grown))
    await put(storage, tableOffset + room, disk.footer, options)
    await put(storage, tableOffset, padded, options)
    allocator.end = tableOffset + room
  } else {
    await put(storage, tableOffset + table.length * 4, toBigEndian(grown.subarray(table.length)), options)
  }
  await storage.flush(options)
  const bytes = withTable(header.bytes, tableOffset, entries)
  // One sector: it is written whole or not at all.
  await put(storage, disk.headerOffset, bytes.subarray(0, sectorSize), options)
  disk.extend(parseHeader(bytes, disk.headerOffset, storage), grown)
  await storage.flush(options)
}
