import { type CheckOptions, divideUp, type Storage } from '@img/core'
import type { Findings } from './findings.js'
import { decodeEntries, readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'
import type { DiskExtent } from './open-extents.js'
import { GTE_ZEROED } from './sparse-extent.js'
import { WritableSparse } from './write-sparse.js'

/** A grain that an entry names. */
interface Named {
  readonly grain: number
  readonly sector: number
}

/**
 * Checks a hosted sparse extent. Repair takes the table of the redundant copy where the first is damaged, forgets grains that
 * are not in the file, and gives each owner of a shared grain a copy of its own.
 */
export async function checkSparse(
  part: DiskExtent,
  findings: Findings,
  options: CheckOptions,
): Promise<void> {
  const { sparse, extent } = part
  if (sparse === undefined) return
  const target = extent instanceof WritableSparse ? extent : undefined
  const { storage } = sparse.extent
  const able = isRepairable(part)
  const header = target?.header ?? sparse.header
  if (header.uncleanShutdown) {
    findings.add(
      { kind: 'corruption', message: `ERROR: ${storage.label} was not closed cleanly`, offset: 72 },
      able ? () => target?.writeHeader({ uncleanShutdown: false }) : undefined,
    )
  }
  const checker = new SparseChecker(part, storage, target, findings, options)
  await checker.run()
}

/** True where an image open for writing could be mended; told also where it is not. */
function isRepairable({ sparse, line }: DiskExtent): boolean {
  return sparse !== undefined && line.access === 'RW'
}

class SparseChecker {
  readonly #part: DiskExtent
  readonly #storage: Storage
  readonly #target: WritableSparse | undefined
  readonly #findings: Findings
  readonly #options: CheckOptions
  /** Owners by the grain of the file that their first sector is in. */
  readonly #owners = new Map<number, Named>()

  constructor(
    part: DiskExtent,
    storage: Storage,
    target: WritableSparse | undefined,
    findings: Findings,
    options: CheckOptions,
  ) {
    this.#part = part
    this.#storage = storage
    this.#target = target
    this.#findings = findings
    this.#options = options
  }

  async run(): Promise<void> {
    const { sparse } = this.#part
    if (sparse === undefined) return
    const { extent } = sparse
    const directory = this.#target?.directory ?? extent.directory
    // As they stand in the file: the other is what is read.
    const primary = this.#target?.storedPrimary ?? sparse.primary
    const redundant = this.#target ? this.#target.redundant : sparse.redundant
    for (let index = 0; index < directory.length; index++) {
      this.#options.signal?.throwIfAborted()
      const first = await this.#table(primary?.[index])
      const second = redundant && (await this.#table(redundant[index]))
      await this.#compare(index, first, second, redundant !== undefined)
    }
  }

  /** A table; undefined where the entry of the directory is damaged, null where there is none. */
  async #table(sector: number | undefined): Promise<Uint32Array | null | undefined> {
    if (sector === 0) return null
    const { gtesPerGt } = this.#shape
    if (sector === undefined || sector * SECTOR + gtesPerGt * 4 > this.#storage.size) return undefined
    return decodeEntries(await readBytes(this.#storage, sector * SECTOR, gtesPerGt * 4, this.#options))
  }

  get #shape(): WritableSparse['shape'] {
    return (this.#part.sparse as NonNullable<DiskExtent['sparse']>).extent.shape
  }

  async #compare(
    index: number,
    first: Uint32Array | null | undefined,
    second: Uint32Array | null | undefined,
    paired: boolean,
  ): Promise<void> {
    const { label } = this.#storage
    const target = this.#target
    const able = isRepairable(this.#part)
    if (first === null && (second === null || !paired)) return
    const chosen = first ?? second
    if (!chosen || first === null) {
      const message = `ERROR: ${label}: the grain directory is damaged at entry ${index}`
      const rebuilt = chosen ?? undefined
      this.#findings.add(
        { kind: 'corruption', message },
        able && rebuilt ? () => target?.replaceTable(index, rebuilt) : undefined,
      )
      if (rebuilt) await this.#entries(index, rebuilt, undefined)
      return
    }
    let rewritten = false
    if (first === undefined || (paired && !second)) {
      const which = first === undefined ? 'the grain directory' : 'the redundant grain directory'
      const message = `ERROR: ${label}: ${which} is damaged at entry ${index}`
      this.#findings.add(
        { kind: 'corruption', message },
        able ? () => target?.replaceTable(index, chosen) : undefined,
      )
      rewritten = true
    } else if (second?.some((entry, at) => entry !== first[at])) {
      const message = `ERROR: ${label}: the copies of grain table ${index} differ`
      this.#findings.add(
        { kind: 'corruption', message },
        able ? () => target?.rewriteTable(index) : undefined,
      )
      rewritten = true
    }
    await this.#entries(index, chosen, rewritten ? undefined : (second ?? undefined))
  }

  /** Looks at each entry of a table. `other`: the redundant copy. */
  async #entries(index: number, table: Uint32Array, other: Uint32Array | undefined): Promise<void> {
    const { gtesPerGt, zeroedGrains, capacity, grainSectors } = this.#shape
    const grains = divideUp(this.#target ? this.#target.size / SECTOR : capacity, grainSectors)
    const end = Math.min(gtesPerGt, grains - index * gtesPerGt)
    for (let at = 0; at < end; at++) {
      const sector = table[at] as number
      if (sector === 0 || (sector === GTE_ZEROED && zeroedGrains)) continue
      this.#entry({ grain: index * gtesPerGt + at, sector }, other?.[at])
    }
  }

  #entry({ grain, sector }: Named, other: number | undefined): void {
    const { grainSectors, overhead } = this.#shape
    const { label, size } = this.#storage
    const target = this.#target
    const able = isRepairable(this.#part)
    const offset = sector * SECTOR
    const where = `sector ${grain * grainSectors}`
    if (offset >= size || sector < overhead) {
      const what = offset >= size ? 'points after EOF' : 'points inside the metadata'
      const message = `ERROR: ${label}: cluster offset for ${where} ${what}`
      const usable = other !== undefined && other !== sector && other >= overhead && other * SECTOR < size
      this.#findings.add(
        { kind: 'corruption', message, offset },
        able ? () => target?.setEntry(grain, usable ? other : 0) : undefined,
      )
      return
    }
    const visible = Math.min(
      target?.grainSize ?? grainSectors * SECTOR,
      this.#part.size - grain * grainSectors * SECTOR,
    )
    if (offset + visible > size) {
      const message = `ERROR: ${label}: the file ends inside the cluster for ${where}`
      this.#findings.add({ kind: 'corruption', message, offset })
    }
    const slot = Math.floor(sector / grainSectors)
    const before = [slot - 1, slot, slot + 1]
      .map((near) => this.#owners.get(near))
      .find((owner) => owner !== undefined && Math.abs(owner.sector - sector) < grainSectors)
    if (before !== undefined) {
      const message = `ERROR: ${label}: the cluster for ${where} is also that for sector ${before.grain * grainSectors}`
      this.#findings.add(
        { kind: 'corruption', message, offset },
        able ? () => target?.moveGrain(grain, sector) : undefined,
      )
      return
    }
    this.#owners.set(slot, { grain, sector })
  }
}
