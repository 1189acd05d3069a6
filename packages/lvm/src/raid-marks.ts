import { alignDown, alignUp, type IoOptions, readU64LE, viewOf, writeU64LE } from '@img/core'
import { SECTOR } from './limits.js'
import { raidMagic } from './raid-metadata.js'
import type { RegionMarks } from './raid-write.js'
import { readVolume, type Volume } from './volume.js'
import type { Disks, Marks } from './write-target.js'

/** Where the bitmap is on a metadata image, and where its bits start in it. Source: dm-raid.c; md-bitmap.h, bitmap_super_s. */
const bitmapOffset = 4096
const bitsOffset = 256
const bitmapMagic = 0x6d746962
/** Bytes of a bitmap at most; lvm2 makes 2^21 bits. */
const mostBitmapBytes = 8 * 1024 * 1024

/** Where the superblock has the sectors that are in sync. Source: dm-raid.c, struct dm_raid_superblock. */
const resyncOffset = 40

/** The write-intent bitmap that all metadata images have the same of. */
interface Bitmap {
  /** Bytes of data that a bit stands for. */
  readonly chunk: number
  /** From the start of the bitmap's superblock on, in whole sectors. */
  readonly bytes: Uint8Array
}

/**
 * Marks the regions of a RAID set that are being written: in the bitmap, and in the superblocks, which say that the set
 * is to be synchronised. So the kernel synchronises these regions, and no others, where a power cut left them unlike.
 * Source: Linux drivers/md/md-bitmap.c, drivers/md/dm-raid.c (super_sync).
 */
export class RaidMarks implements RegionMarks, Marks {
  readonly #disks: Disks
  readonly #metadata: readonly Volume[]
  /** Bits set since the volume was opened. */
  readonly #marked = new Set<number>()
  /** First sectors of the metadata images that have a superblock, as they were. */
  #superblocks: { readonly volume: Volume; readonly sector: Uint8Array }[] | undefined
  #bitmap: Bitmap | undefined

  constructor(disks: Disks, metadata: readonly (Volume | undefined)[]) {
    this.#disks = disks
    this.#metadata = metadata.filter((volume) => volume !== undefined)
    disks.add(this)
  }

  together(change: () => Promise<unknown>): Promise<void> {
    return this.#disks.together(change)
  }

  async before(start: number, end: number, options?: IoOptions): Promise<void> {
    if (this.#superblocks === undefined) await this.#load()
    const superblocks = this.#superblocks ?? []
    // A set that was never activated is synchronised as a whole when it is.
    if (superblocks.length === 0) return
    const fresh = this.#setBits(start, end)
    if (fresh === undefined) return
    const first = this.#marked.size === 0
    if (!first && fresh.length === 0) return
    if (first) await this.#writeSuperblocks(0, options)
    await this.#writeBits(fresh, options)
    for (const bit of fresh) this.#marked.add(bit)
    // With no bit to set, this tells that the superblocks were written.
    if (first && fresh.length === 0) this.#marked.add(-1)
    await this.#disks.flush(options)
  }

  async clear(options?: IoOptions): Promise<void> {
    if (this.#marked.size === 0) return
    const { bytes } = this.#bitmap ?? { bytes: new Uint8Array(0) }
    const bits = [...this.#marked].filter((bit) => bit >= 0)
    for (const bit of bits) setBit(bytes, bit, false)
    await this.#writeBits(bits, options)
    await this.#disks.flush(options)
    await this.#writeSuperblocks(undefined, options)
    this.#marked.clear()
  }

  async #load(): Promise<void> {
    const superblocks: { volume: Volume; sector: Uint8Array }[] = []
    for (const volume of this.#metadata) {
      if (volume.size < SECTOR) continue
      const sector = new Uint8Array(SECTOR)
      await readVolume(volume, 0, sector)
      if (viewOf(sector).getUint32(0, true) === raidMagic) superblocks.push({ volume, sector })
    }
    const [first] = superblocks
    if (first !== undefined)
      this.#bitmap = await readBitmap(first.volume, readU64LE(viewOf(first.sector), 16))
    this.#superblocks = superblocks
  }

  /** Sets the bits of a range; returns those that were not set. Without a bitmap there are none. */
  #setBits(start: number, end: number): number[] | undefined {
    const bitmap = this.#bitmap
    if (bitmap === undefined) return this.#marked.has(-1) ? undefined : []
    const fresh: number[] = []
    for (let bit = Math.floor(start / bitmap.chunk); bit * bitmap.chunk < end; bit++) {
      if (setBit(bitmap.bytes, bit, true)) fresh.push(bit)
    }
    return fresh
  }

  async #writeBits(bits: readonly number[], options?: IoOptions): Promise<void> {
    const { bytes } = this.#bitmap ?? { bytes: new Uint8Array(0) }
    const sectors = new Set(bits.map((bit) => alignDown(bitsOffset + Math.floor(bit / 8), SECTOR)))
    for (const at of sectors) {
      const sector = bytes.subarray(at, at + SECTOR)
      for (const { volume } of this.#superblocks ?? []) await volume.write(bitmapOffset + at, sector, options)
    }
  }

  /** `synced`: sectors; undefined: as it was. */
  async #writeSuperblocks(synced: number | undefined, options?: IoOptions): Promise<void> {
    for (const { volume, sector } of this.#superblocks ?? []) {
      const changed = sector.slice()
      if (synced !== undefined) writeU64LE(viewOf(changed), resyncOffset, synced)
      await volume.write(0, changed, options)
    }
  }
}

/** Returns whether the bit changed. */
function setBit(bytes: Uint8Array, bit: number, value: boolean): boolean {
  const at = bitsOffset + Math.floor(bit / 8)
  const mask = 1 << (bit % 8)
  const before = bytes[at] as number
  bytes[at] = value ? before | mask : before & ~mask
  return bytes[at] !== before
}

/** Undefined where there is none that the kernel would use: then it synchronises all. */
async function readBitmap(volume: Volume, events: number): Promise<Bitmap | undefined> {
  if (volume.size < bitmapOffset + SECTOR) return undefined
  const head = new Uint8Array(SECTOR)
  await readVolume(volume, bitmapOffset, head)
  const view = viewOf(head)
  const chunk = view.getUint32(52, true)
  const version = view.getUint32(4, true)
  if (view.getUint32(0, true) !== bitmapMagic || version !== 4 || readU64LE(view, 24) < events)
    return undefined
  if (chunk < SECTOR || !Number.isInteger(Math.log2(chunk))) return undefined
  const bits = Math.ceil((readU64LE(view, 40) * SECTOR) / chunk)
  const size = alignUp(bitsOffset + Math.ceil(bits / 8), SECTOR)
  if (size > mostBitmapBytes || bitmapOffset + size > volume.size) return undefined
  const bytes = new Uint8Array(size)
  await readVolume(volume, bitmapOffset, bytes)
  return { chunk, bytes }
}
