import { alignDown, alignUp, type IoOptions, readU64LE, viewOf, writeU64LE } from '@img/core'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import type { RegionMarks } from './raid-write.js'
import { readVolume, type Volume } from './volume.js'
import type { Disks, Marks } from './write-target.js'

/** Source: Linux drivers/md/dm-log.c (MIRROR_MAGIC, LOG_OFFSET). */
const magic = 0x4d695272
const bitsAt = 1024
/** Bytes of a log at most that is kept in memory: enough for 2^26 regions. */
const mostLogBytes = 8 * 1024 * 1024

/**
 * Marks the regions of a mirror that are being written in its log: the bits of regions whose copies are alike are taken away.
 * Without a log the kernel makes all copies alike whenever it activates the mirror.
 * Source: Linux drivers/md/dm-log.c.
 */
export class MirrorMarks implements RegionMarks, Marks {
  readonly #disks: Disks
  readonly #log: Volume | undefined
  readonly #region: number
  readonly #regions: number
  readonly #marked = new Set<number>()
  /** The log up to the end of its bits, in whole sectors. */
  #bytes: Uint8Array | undefined

  /** @param region bytes; @param size bytes of the mirror */
  constructor(disks: Disks, log: Volume | undefined, region: number, size: number) {
    this.#disks = disks
    this.#log = log
    this.#region = region
    this.#regions = Math.ceil(size / region)
    disks.add(this)
  }

  together(change: () => Promise<unknown>): Promise<void> {
    return this.#disks.together(change)
  }

  async before(start: number, end: number, options?: IoOptions): Promise<void> {
    if (this.#log === undefined) return
    this.#bytes ??= await this.#load(this.#log)
    const changed: number[] = []
    for (let region = Math.floor(start / this.#region); region * this.#region < end; region++) {
      if (this.#set(region, false)) changed.push(region)
    }
    if (changed.length === 0) return
    for (const region of changed) this.#marked.add(region)
    await this.#write(changed, options)
    await this.#disks.flush(options)
  }

  async clear(options?: IoOptions): Promise<void> {
    const marked = [...this.#marked]
    for (const region of marked) this.#set(region, true)
    await this.#write(marked, options)
    this.#marked.clear()
  }

  async #load(log: Volume): Promise<Uint8Array> {
    const size = alignUp(bitsAt + Math.ceil(this.#regions / 8), SECTOR)
    const bytes = new Uint8Array(size <= Math.min(log.size, mostLogBytes) ? size : SECTOR)
    if (bytes.length === size) await readVolume(log, 0, bytes)
    const view = viewOf(bytes)
    const before = readU64LE(view, 8)
    if (view.getUint32(0, true) !== magic || before > this.#regions || bytes.length < size) {
      throw lvmError(
        'IMG_UNSUPPORTED',
        'the log of the mirror is damaged, or of another size: it is not written',
      )
    }
    if (before < this.#regions) await this.#enlarge(log, bytes, before)
    return bytes
  }

  /** The mirror was made larger since the log was written: the new regions are not alike, as the kernel takes them. */
  async #enlarge(log: Volume, bytes: Uint8Array, before: number): Promise<void> {
    for (let region = before; region < this.#regions; region++) {
      const at = bitsAt + Math.floor(region / 8)
      bytes[at] = (bytes[at] as number) & ~(1 << (region % 8))
    }
    await log.write(bitsAt, bytes.subarray(bitsAt))
    await this.#disks.flush()
    writeU64LE(viewOf(bytes), 8, this.#regions)
    await log.write(0, bytes.subarray(0, SECTOR))
  }

  #set(region: number, clean: boolean): boolean {
    const bytes = this.#bytes as Uint8Array
    const at = bitsAt + Math.floor(region / 8)
    const mask = 1 << (region % 8)
    const before = bytes[at] as number
    bytes[at] = clean ? before | mask : before & ~mask
    return bytes[at] !== before
  }

  async #write(regions: readonly number[], options?: IoOptions): Promise<void> {
    const bytes = this.#bytes as Uint8Array
    for (const at of new Set(regions.map((region) => alignDown(bitsAt + Math.floor(region / 8), SECTOR)))) {
      await this.#log?.write(at, bytes.subarray(at, at + SECTOR), options)
    }
  }
}
