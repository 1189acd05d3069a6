import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  ImageError,
  type ImageWriter,
  type IoOptions,
  type Measurement,
  type MeasureSpec,
  type Placement,
  type WritableStorage,
} from '@img/core'
import { bitmapSizeOf } from './bitmaps.js'
import { toBigEndian, unused } from './dynamic-disk.js'
import { newUuid } from './fields.js'
import { type DiskType, newFooter } from './footer.js'
import { chooseSizing, type Sizing, sectorSize, sectorsOf, virtualSizeOf } from './geometry.js'
import { defaultBlockSize, headerSize, newHeader } from './header.js'
import { type NewParent, parentName, readParent } from './parent.js'
import { put } from './put.js'

/** Where the dynamic header of a new disk stands: behind the copy of the footer. */
export const headerOffset: number = sectorSize
/** Where parent names, or the table where there are none, stand in a new disk. */
export const namesOffset: number = headerOffset + headerSize
/** Bytes of the file that a block of a new disk takes. */
export const blockRoom: number = bitmapSizeOf(defaultBlockSize) + defaultBlockSize

/**
 * Starts a VHD: fixed, dynamic, or differencing where `backing_file` names a parent.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_REFERENCE_DENIED, …
 */
export async function createVhd(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const { subformat, backing } = checkedOptions(spec.options)
  if (target.size > 0) {
    throw new ImageError('IMG_UNSUPPORTED', `${target.label} is not empty: a VHD is made in a new file`, {
      format: 'vpc',
      source: target.label,
    })
  }
  const parent = backing === undefined ? undefined : await readParent(backing, namesOffset, context)
  const sizing = (size: number): Sizing => sizingFor(size, spec.options, parent)
  // What is too large is refused before anything is written.
  if (spec.size !== undefined) sizing(spec.size)
  return subformat === 'fixed'
    ? fixedWriter(target, spec, sizing)
    : new DynamicWriter(target, spec.size, sizing, parent)
}

/** Options that belong together. @throws {ImageError} IMG_BAD_OPTION where they do not. */
export function checkedOptions(options: CreateSpec['options']): {
  readonly subformat: 'fixed' | 'dynamic'
  readonly backing: string | undefined
} {
  const { subformat, backing_file, backing_fmt } = options
  const bad = (message: string): ImageError => new ImageError('IMG_BAD_OPTION', message, { format: 'vpc' })
  if (backing_file !== undefined && subformat === 'fixed') throw bad('a fixed disk has no parent')
  if (backing_file === undefined && backing_fmt !== undefined) throw bad('backing_fmt without backing_file')
  if (backing_fmt !== undefined && backing_fmt !== 'vpc' && backing_fmt !== 'vhd')
    throw bad(`the parent of a VHD is a VHD, not ${backing_fmt}`)
  return {
    subformat: subformat === 'fixed' ? 'fixed' : 'dynamic',
    backing: backing_file as string | undefined,
  }
}

/**
 * A differencing disk has the size of its parent, and its geometry.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE; IMG_BAD_OPTION for a size that is not the parent's, also when rounded up.
 */
function sizingFor(size: number, options: CreateSpec['options'], parent: NewParent | undefined): Sizing {
  const sizing = chooseSizing(size, options.force_size === true)
  if (parent === undefined) return sizing
  const { footer } = parent
  const same = virtualSizeOf(footer, 'auto')
  if (size !== same && sizing.size !== same) {
    throw new ImageError(
      'IMG_BAD_OPTION',
      `a differencing disk has the size of its parent, ${same} bytes, not ${size}`,
      { format: 'vpc' },
    )
  }
  const exact = sectorsOf(footer.geometry) * sectorSize === same
  return { size: same, geometry: footer.geometry, creatorApp: exact ? 'qemu' : 'qem2' }
}

function footerFor(type: DiskType, sizing: Sizing): Uint8Array {
  return newFooter({ type, ...sizing, uuid: newUuid(), headerOffset })
}

/** A fixed disk: the bytes, then the footer. */
async function fixedWriter(
  target: WritableStorage,
  spec: CreateSpec,
  sizing: (size: number) => Sizing,
): Promise<ImageWriter> {
  if (spec.size !== undefined) await target.truncate(sizing(spec.size).size)
  return {
    clusterSize: 1,
    place: (offset, length) => ({ storage: target, hostOffset: offset, length }),
    async finish({ size = 0, ...options } = {}) {
      const chosen = sizing(spec.size ?? size)
      await target.truncate(chosen.size, options)
      await put(target, chosen.size, footerFor('fixed', chosen), options)
    },
  }
}

/**
 * A dynamic or differencing disk. The table stands before the blocks, or behind them where the size is not known at first.
 * VHD specification, "Implementing a Dynamic Disk".
 */
class DynamicWriter implements ImageWriter {
  readonly clusterSize: number = defaultBlockSize
  readonly zero?: (offset: number, length: number) => Promise<void>
  readonly #target: WritableStorage
  readonly #size: number | undefined
  readonly #sizing: (size: number) => Sizing
  readonly #parent: NewParent | undefined
  readonly #table: number[] = []
  readonly #tableOffset: number | undefined
  /** All sectors held: what nothing was written to is zeros. */
  readonly #bitmap: Uint8Array = new Uint8Array(bitmapSizeOf(defaultBlockSize)).fill(0xff)
  #end: number

  constructor(
    target: WritableStorage,
    size: number | undefined,
    sizing: (size: number) => Sizing,
    parent: NewParent | undefined,
  ) {
    this.#target = target
    this.#size = size
    this.#sizing = sizing
    this.#parent = parent
    this.#end = namesOffset + (parent?.room ?? 0)
    if (size !== undefined) {
      this.#tableOffset = this.#end
      this.#end += tableRoom(sizing(size).size)
    }
    if (parent !== undefined) this.zero = (offset, length) => this.#zero(offset, length)
  }

  async place(offset: number, length: number): Promise<Placement> {
    const within = offset % defaultBlockSize
    const start = await this.#addBlock((offset - within) / defaultBlockSize)
    return {
      storage: this.#target,
      hostOffset: start + this.#bitmap.length + within,
      length: Math.min(length, defaultBlockSize - within),
    }
  }

  async finish({
    size = 0,
    ...options
  }: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    const sizing = this.#sizing(this.#size ?? size)
    const target = this.#target
    const table = new Uint8Array(tableRoom(sizing.size)).fill(0xff)
    const entries = blocksOf(sizing.size)
    table.set(toBigEndian(Array.from({ length: entries }, (_, block) => this.#table[block] ?? unused)))
    let tableOffset = this.#tableOffset
    if (tableOffset === undefined) {
      tableOffset = this.#end
      this.#end += table.length
    }
    const parent = this.#parent
    const footer = footerFor(parent === undefined ? 'dynamic' : 'differencing', sizing)
    await put(target, this.#end, footer, options)
    await put(target, tableOffset, table, options)
    for (const name of parent?.names ?? []) await put(target, namesOffset, name, options)
    const header = newHeader(tableOffset, entries, defaultBlockSize, parent?.record)
    await put(target, headerOffset, header, options)
    await put(target, 0, footer, options)
  }

  async #addBlock(block: number): Promise<number> {
    const start = this.#end
    await put(this.#target, start, this.#bitmap)
    this.#table[block] = start / sectorSize
    this.#end = start + blockRoom
    return start
  }

  /** Zeros over a parent are blocks that hold all their sectors, and nothing in them. */
  async #zero(offset: number, length: number): Promise<void> {
    for (let block = offset / defaultBlockSize; block * defaultBlockSize < offset + length; block++) {
      await this.#addBlock(block)
    }
  }
}

/** Blocks of a new disk of so many bytes. */
export function blocksOf(size: number): number {
  return Math.ceil(size / defaultBlockSize)
}

/** Bytes of the table of a new disk, in whole sectors. */
export function tableRoom(size: number): number {
  return alignUp(blocksOf(size) * 4, sectorSize)
}

/** The file sizes of a new disk. @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE. */
export async function measureVhd(spec: MeasureSpec): Promise<Measurement> {
  const { subformat, backing } = checkedOptions(spec.options)
  const size =
    backing === undefined ? chooseSizing(spec.size, spec.options.force_size === true).size : spec.size
  if (subformat === 'fixed') return { required: size + sectorSize, fullyAllocated: size + sectorSize }
  const names = backing === undefined ? 0 : parentName(backing).room
  const fixed = namesOffset + names + tableRoom(size) + sectorSize
  let blocks = 0
  if (spec.dataRanges) {
    for await (const { length } of spec.dataRanges(defaultBlockSize)) blocks += blocksOf(length)
  }
  return { required: fixed + blocks * blockRoom, fullyAllocated: fixed + blocksOf(size) * blockRoom }
}
