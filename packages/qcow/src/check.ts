import { alignUp, type CheckFinding, type CheckOptions, type CheckResult } from '@img/core'
import { qcowError } from './errors.js'
import { HEADER_BYTES, SECTOR } from './header.js'
import { decodeEntry, type Entry, type L2Table, type Tables } from './tables.js'
import type { WritableImage } from './write-image.js'

/**
 * Checks both tables: where they point, and that no two things take one place. Repair gives each owner of a shared cluster a copy
 * of its own, and forgets what cannot be there. (qemu-img has no check for this format.)
 * @param image absent where the image is not open for writing
 */
export async function checkImage(
  tables: Tables,
  image: WritableImage | undefined,
  options: CheckOptions,
): Promise<CheckResult> {
  const checker = new Checker(tables, image, options)
  return checker.run()
}

class Checker {
  readonly #tables: Tables
  readonly #image: WritableImage | undefined
  readonly #options: CheckOptions
  readonly #claims: Claims
  readonly #counts = { corruption: 0, leak: 0, error: 0 }
  readonly #fixed = { corruption: 0, leak: 0, error: 0 }
  readonly #totals = { allocated: 0, compressed: 0, fragmented: 0 }
  #lastHost = 0

  constructor(tables: Tables, image: WritableImage | undefined, options: CheckOptions) {
    this.#tables = tables
    this.#image = image
    this.#options = options
    this.#claims = new Claims(tables.storage.size)
  }

  async run(): Promise<CheckResult> {
    const { header, l1, storage } = this.#tables
    if (this.#changes && this.#image === undefined) {
      throw qcowError('IMG_READ_ONLY', 'it is not open for writing', storage.label)
    }
    this.#claims.take(0, HEADER_BYTES)
    this.#claims.take(header.l1Offset, header.l1Size * 8)
    // Tables first: data that lies over one is what has to give way.
    for (let index = 0; index < l1.length; index++) await this.#claimTable(index)
    for (let index = 0; index < l1.length; index++) {
      this.#options.signal?.throwIfAborted()
      if (l1[index] === 0 || !this.#placeOf(index)) continue
      const table = await this.#tables.table(index, this.#options)
      if (table !== undefined) await this.#checkTable(index, table)
    }
    // QEMU fills the L1 table with zeros to whole sectors.
    this.#claims.reserve(header.l1Offset, alignUp(header.l1Size * 8, SECTOR))
    const spare = Math.max(0, Math.floor((storage.size - this.#claims.end) / header.clusterSize))
    const leaked = this.#claims.unclaimed(header.clusterSize) + spare
    if (leaked > 0) {
      this.#add(
        { kind: 'leak', message: `Leaked clusters: ${leaked} in the file that nothing uses`, length: leaked },
        true,
      )
    }
    if (this.#changes) await this.#image?.settle(this.#options)
    if (this.#changes && leaked > 0) {
      const { compactImage } = await import('./compact.js')
      if (this.#counts.corruption === 0) await compactImage(this.#image as WritableImage, this.#options)
    }
    return {
      checkErrors: this.#counts.error,
      corruptions: this.#counts.corruption,
      leaks: this.#counts.leak,
      ...(this.#options.repair !== undefined && {
        corruptionsFixed: this.#fixed.corruption,
        leaksFixed: this.#fixed.leak,
      }),
      imageEndOffset: this.#claims.end,
      totalClusters: Math.ceil(header.size / header.clusterSize),
      allocatedClusters: this.#totals.allocated,
      fragmentedClusters: this.#totals.fragmented,
      compressedClusters: this.#totals.compressed,
    }
  }

  get #changes(): boolean {
    return this.#options.repair !== undefined && this.#options.dryRun !== true
  }

  #add(finding: CheckFinding, repairable: boolean): boolean {
    const { repair, onFinding } = this.#options
    // Leaks are given back by moving data: not while some of it is in doubt.
    const sound = finding.kind !== 'leak' || this.#counts.corruption === 0
    const fixed = repairable && sound && (repair === 'all' || (repair === 'leaks' && finding.kind === 'leak'))
    onFinding?.(fixed ? { ...finding, fixed } : finding)
    const count = finding.kind === 'leak' ? (finding.length ?? 1) : 1
    if (fixed) this.#fixed[finding.kind] += count
    else this.#counts[finding.kind] += count
    return fixed && this.#changes
  }

  /** True where an L2 table can be where the L1 entry says. */
  #placeOf(index: number): boolean {
    const { l1, l2Bytes, storage } = this.#tables
    const offset = l1[index] as number
    return (
      Number.isSafeInteger(offset) &&
      offset % 8 === 0 &&
      offset >= HEADER_BYTES &&
      offset + l2Bytes <= storage.size
    )
  }

  async #claimTable(index: number): Promise<void> {
    const { header, l1, l2Bytes } = this.#tables
    const offset = l1[index] as number
    if (offset === 0) return
    const at = header.l1Offset + index * 8
    if (!this.#placeOf(index)) {
      const message = `ERROR L1 entry ${index}: no L2 table can be at ${offset}`
      if (this.#add({ kind: 'corruption', message, offset: at }, true)) this.#image?.setL1(index, 0)
    } else if (!this.#claims.take(offset, l2Bytes)) {
      const message = `ERROR L1 entry ${index}: the L2 table at ${offset} lies over other metadata`
      this.#add({ kind: 'corruption', message, offset: at }, false)
    }
  }

  async #checkTable(index: number, table: L2Table): Promise<void> {
    const { header, storage } = this.#tables
    const perTable = 2 ** header.l2Bits
    for (let i = 0; i < perTable; i++) {
      const entry = decodeEntry(
        table.view.getUint32(i * 8),
        table.view.getUint32(i * 8 + 4),
        header.clusterBits,
      )
      if (entry?.kind === 'none') continue
      const cluster = index * perTable + i
      const offset = table.offset + i * 8
      const guest = cluster * header.clusterSize
      const visible = Math.max(0, Math.min(header.clusterSize, header.size - guest))
      const length = entry?.kind === 'compressed' ? entry.length : visible
      const unfit =
        entry === undefined ||
        (entry.kind === 'data' && entry.host % SECTOR !== 0) ||
        length === 0 ||
        entry.host + length > storage.size
      if (unfit) {
        // What lies behind the end of the disk is nobody's.
        if (entry !== undefined && visible === 0) continue
        const message = `ERROR cluster ${cluster}: its data cannot be where the L2 entry says`
        if (this.#add({ kind: 'corruption', message, offset }, true)) {
          await this.#image?.set(cluster, [{ kind: 'none' }], this.#options)
        }
        continue
      }
      await this.#claimCluster(cluster, entry, offset)
    }
  }

  async #claimCluster(
    cluster: number,
    entry: Exclude<Entry, { kind: 'none' }>,
    offset: number,
  ): Promise<void> {
    const { header } = this.#tables
    const totals = this.#totals
    totals.allocated++
    if (entry.kind === 'compressed') totals.compressed++
    else if (this.#lastHost !== 0 && entry.host !== this.#lastHost + header.clusterSize) totals.fragmented++
    if (entry.kind === 'data') this.#lastHost = entry.host
    const length = entry.kind === 'compressed' ? entry.length : header.clusterSize
    if (this.#claims.take(entry.host, length, entry.kind === 'compressed')) return
    const message = `ERROR cluster ${cluster}: the place at ${entry.host} is used by something else, too`
    if (this.#add({ kind: 'corruption', message, offset }, true)) await this.#copyOwn(cluster, entry)
  }

  /** Gives a cluster a copy of the place that it shares. */
  async #copyOwn(cluster: number, entry: Exclude<Entry, { kind: 'none' }>): Promise<void> {
    const image = this.#image as WritableImage
    const { clusterSize } = this.#tables.header
    const compressed = entry.kind === 'compressed'
    const length = compressed ? entry.length : clusterSize
    const bytes = new Uint8Array(length)
    const inFile = Math.min(length, image.storage.size - entry.host)
    await image.storage.read(entry.host, bytes.subarray(0, inFile), this.#options)
    const host = image.take(length, compressed ? 1 : clusterSize)
    await image.storage.write(host, bytes, this.#options)
    await image.set(cluster, [{ ...entry, host }], this.#options)
    await image.begin()
  }
}

/** Marks of sectors: of one thing alone, or of things that need not fill whole sectors. */
const EXCLUSIVE = 1
const LOOSE = 2

/** Which sectors of a file are taken. Compressed clusters may share sectors with each other. */
class Claims {
  readonly #taken: Uint8Array
  /** Behind the last byte taken. */
  end = 0

  constructor(fileSize: number) {
    this.#taken = new Uint8Array(Math.ceil(fileSize / SECTOR))
  }

  /** Takes bytes; false where something else has some of them. What starts inside a sector may share it with others that do. */
  take(offset: number, length: number, compressed = false): boolean {
    this.end = Math.max(this.end, offset + length)
    const loose = compressed || offset % SECTOR !== 0 || offset === 0
    let free = true
    const last = Math.min(this.#taken.length, Math.ceil((offset + length) / SECTOR))
    for (let sector = Math.floor(offset / SECTOR); sector < last; sector++) {
      const before = this.#taken[sector] as number
      if (before === EXCLUSIVE || (before === LOOSE && !loose)) free = false
      this.#taken[sector] = loose && before !== EXCLUSIVE ? LOOSE : EXCLUSIVE
    }
    return free
  }

  /** Marks what is free of a range as taken. */
  reserve(offset: number, length: number): void {
    const last = Math.min(this.#taken.length, Math.ceil((offset + length) / SECTOR))
    for (let sector = Math.floor(offset / SECTOR); sector < last; sector++) {
      if (this.#taken[sector] === 0) this.#taken[sector] = LOOSE
    }
  }

  /** Whole units of the file, up to the end of what is taken, of which nothing is taken. */
  unclaimed(unit: number): number {
    const sectors = unit / SECTOR
    let count = 0
    for (let at = 0; at < this.#taken.length && at * SECTOR < this.end; at += sectors) {
      const part = this.#taken.subarray(at, at + sectors)
      if (part.every((mark) => mark === 0)) count++
    }
    return count
  }
}
