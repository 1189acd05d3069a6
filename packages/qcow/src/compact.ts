import { alignUp, type CompactOptions } from '@img/core'
import { corrupt, qcowError } from './errors.js'
import { HEADER_BYTES } from './header.js'
import { decodeEntry, type Entry, type L2Table } from './tables.js'
import type { WritableImage } from './write-image.js'

/** Clusters in use at most: they are all listed in memory. */
const MAX_UNITS: number = 2 ** 24

/** Passes at most: each leaves less to be moved. */
const MAX_PASSES = 8

/** A piece of the file that something uses. */
interface Unit {
  readonly host: number
  readonly length: number
  /** Guest cluster, or index of an L2 table; -1: stays where it is. */
  readonly owner: number
  readonly kind: 'data' | 'compressed' | 'table' | 'fixed'
}

/** A piece of the file that nothing uses; its start moves on as it is filled. */
interface Gap {
  start: number
  readonly end: number
}

/**
 * Moves what stands last in the file into gaps before it, and cuts the file; again while that made other gaps, as compressed
 * clusters do that leave several to a cluster behind. Copies go only where nothing was, and are durable before anything points at
 * them.
 * @throws {ImageError} IMG_CORRUPT where two things take one place; IMG_UNSUPPORTED_SIZE.
 */
export async function compactImage(image: WritableImage, options: CompactOptions = {}): Promise<void> {
  await image.settle(options)
  let moved = await runPass(image, options)
  // Most is moved by the first pass: progress is told of that one.
  const quiet = { signal: options.signal }
  for (let pass = 1; pass < MAX_PASSES && moved; pass++) moved = await runPass(image, quiet)
}

/** Moves and cuts once. Returns whether anything was moved. */
async function runPass(image: WritableImage, options: CompactOptions): Promise<boolean> {
  const { storage } = image
  const units = await listUnits(image, options)
  const gaps = findGaps(units, storage.label)
  const mover = new UnitMover(image, gaps, options)
  const total = storage.size
  for (const unit of [...units].reverse()) {
    if (unit.kind === 'fixed' || unit.kind === 'table') continue
    await mover.moveCluster(unit)
    options.onProgress?.({ done: total - unit.host, total })
  }
  await image.settle(options)
  // The tables move last: with what they say by now.
  for (const unit of [...units].reverse()) if (unit.kind === 'table') await mover.moveTable(unit)
  await mover.switchTables()
  let end = 0
  for (const { host, length } of await listUnits(image, options)) end = Math.max(end, host + length)
  if (end < storage.size) await storage.truncate(end, options)
  await storage.flush(options)
  image.end = storage.size
  return mover.moved
}

/** All that is in use, by place. */
async function listUnits(image: WritableImage, options: CompactOptions): Promise<Unit[]> {
  const { tables, storage } = image
  const { header, l1, l2Bytes } = tables
  const units: Unit[] = [
    { host: 0, length: HEADER_BYTES, owner: -1, kind: 'fixed' },
    { host: header.l1Offset, length: header.l1Size * 8, owner: -1, kind: 'fixed' },
  ]
  const name = await image.nameRange(options)
  if (name !== undefined) units.push({ ...name, owner: -1, kind: 'fixed' })
  for (let index = 0; index < l1.length; index++) {
    options.signal?.throwIfAborted()
    const table = await tables.table(index, options)
    if (table === undefined) continue
    units.push({ host: table.offset, length: l2Bytes, owner: index, kind: 'table' })
    for (const unit of clustersOf(table, index, image)) {
      units.push(unit)
      if (units.length > MAX_UNITS) {
        throw qcowError('IMG_UNSUPPORTED_SIZE', `more than ${MAX_UNITS} clusters are in use`, storage.label)
      }
    }
  }
  return units.sort((a, b) => a.host - b.host)
}

function* clustersOf(
  { view, offset }: L2Table,
  index: number,
  { tables, storage }: WritableImage,
): Generator<Unit> {
  const { clusterBits, clusterSize, l2Bits } = tables.header
  for (let i = 0; i < 2 ** l2Bits; i++) {
    const entry = decodeEntry(view.getUint32(i * 8), view.getUint32(i * 8 + 4), clusterBits)
    if (entry === undefined) throw corrupt('an L2 entry points beyond 2^53', storage.label, offset + i * 8)
    if (entry.kind === 'none') continue
    const owner = index * 2 ** l2Bits + i
    const length =
      entry.kind === 'compressed' ? entry.length : Math.min(clusterSize, storage.size - entry.host)
    if (length <= 0 || entry.host + length > storage.size) {
      throw corrupt(`cluster ${owner} is not in the file`, storage.label, offset + i * 8)
    }
    yield { host: entry.host, length, owner, kind: entry.kind }
  }
}

function findGaps(units: readonly Unit[], source: string): Gap[] {
  const gaps: Gap[] = []
  let end = 0
  for (const { host, length } of units) {
    if (host < end) throw corrupt(`two things take the place at ${host}`, source, host)
    if (host > end) gaps.push({ start: end, end: host })
    end = host + length
  }
  return gaps
}

class UnitMover {
  readonly #image: WritableImage
  readonly #gaps: readonly Gap[]
  readonly #options: CompactOptions
  /** For each kind, the gap from which on one may have room. */
  readonly #from = { data: 0, compressed: 0, table: 0 }
  readonly #tables: [index: number, offset: number][] = []
  /** Whether anything was. */
  moved = false

  constructor(image: WritableImage, gaps: readonly Gap[], options: CompactOptions) {
    this.#image = image
    this.#gaps = gaps
    this.#options = options
  }

  async moveCluster(unit: Unit): Promise<void> {
    const { kind, owner, length } = unit
    if (kind !== 'data' && kind !== 'compressed') return
    const { clusterSize } = this.#image.tables.header
    const host = this.#room(
      kind,
      kind === 'data' ? clusterSize : length,
      kind === 'data' ? clusterSize : 1,
      unit.host,
    )
    if (host === undefined) return
    await this.#copy(unit, host)
    const entry: Entry = kind === 'data' ? { kind, host } : { kind, host, length }
    await this.#image.set(owner, [entry], this.#options)
    await this.#image.begin()
  }

  async moveTable(unit: Unit): Promise<void> {
    const { clusterSize } = this.#image.tables.header
    const host = this.#room('table', unit.length, clusterSize, unit.host)
    if (host === undefined) return
    await this.#copy(unit, host)
    this.#tables.push([unit.owner, host])
  }

  /** Points the L1 table at the tables that were moved. */
  async switchTables(): Promise<void> {
    const image = this.#image
    if (this.#tables.length === 0) return
    await image.storage.flush(this.#options)
    for (const [index, offset] of this.#tables) image.setL1(index, offset)
    image.tables.forget()
    await image.settle(this.#options)
  }

  /** Takes room below a place; undefined where there is none. */
  #room(
    kind: 'data' | 'compressed' | 'table',
    length: number,
    unit: number,
    below: number,
  ): number | undefined {
    for (let i = this.#from[kind]; i < this.#gaps.length; i++) {
      const gap = this.#gaps[i] as Gap
      const start = alignUp(gap.start, unit)
      if (start >= below) return undefined
      if (start + length <= gap.end) {
        gap.start = start + length
        return start
      }
      // Compressed clusters differ in length: a shorter one may still fit here.
      if (kind !== 'compressed' || gap.start === gap.end) {
        if (i === this.#from[kind]) this.#from[kind]++
      }
    }
    return undefined
  }

  async #copy({ host, length }: Unit, to: number): Promise<void> {
    const { storage } = this.#image
    this.#options.signal?.throwIfAborted()
    const bytes = new Uint8Array(length)
    await storage.read(host, bytes, this.#options)
    await storage.write(to, bytes, this.#options)
    this.moved = true
  }
}
