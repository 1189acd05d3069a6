import type { CheckFinding, CheckOptions, CheckResult, Storage } from '@img/core'
import type { BlockMap } from './block-map.js'
import { vdiError } from './errors.js'
import { ImageType } from './header.js'
import { FREE, SECTOR, ZERO } from './limits.js'
import { blockOffset } from './mapping.js'
import { nullUuid } from './uuid.js'
import type { WritableImage } from './write-image.js'

/** What was found, counted. */
class Findings {
  readonly #options: CheckOptions
  readonly counts = { corruption: 0, leak: 0, error: 0 }
  readonly fixed = { corruption: 0, leak: 0, error: 0 }

  constructor(options: CheckOptions) {
    this.#options = options
  }

  /** @param repairable repair, where asked for, mends it. Returns whether it is to be. */
  add(finding: CheckFinding, repairable: boolean): boolean {
    const { repair, onFinding } = this.#options
    const fixed = repairable && (repair === 'all' || (repair === 'leaks' && finding.kind === 'leak'))
    onFinding?.(fixed ? { ...finding, fixed } : finding)
    const { kind, length } = finding
    const count = kind === 'leak' ? (length ?? 1) : 1
    if (fixed) this.fixed[kind] += count
    else this.counts[kind] += count
    return fixed
  }

  result(): CheckResult {
    const { counts, fixed } = this
    return {
      checkErrors: counts.error,
      corruptions: counts.corruption,
      leaks: counts.leak,
      ...(this.#options.repair !== undefined && {
        corruptionsFixed: fixed.corruption,
        leaksFixed: fixed.leak,
      }),
    }
  }
}

/**
 * Checks header and block map, in the words of `qemu-img check`. Repair gives each owner of a shared block a copy of its own,
 * forgets blocks that are not in the file, counts blocks anew, and fills or cuts off what nothing uses.
 * @param image absent where the image is not open for writing
 */
export async function checkImage(
  storage: Storage,
  opened: BlockMap,
  image: WritableImage | undefined,
  options: CheckOptions,
): Promise<CheckResult> {
  const header = image?.header ?? opened.header
  const entries = image?.entries ?? opened.entries
  const findings = new Findings(options)
  const repairs: (() => Promise<void> | void)[] = []
  if (header.uuidCreate === nullUuid || header.uuidModify === nullUuid) {
    findings.add({ kind: 'corruption', message: 'ERROR: the image has no UUID', offset: 392 }, false)
  }
  const { cylinders, heads, sectors } = header.geometry
  if (cylinders * heads * sectors * SECTOR > header.size) {
    const message = `ERROR: geometry ${cylinders}/${heads}/${sectors} is larger than the disk`
    if (findings.add({ kind: 'corruption', message }, header.version !== 1)) {
      repairs.push(() => image?.setHeader({ geometry: { cylinders: 0, heads: 0, sectors: 0 } }))
    }
  }
  const sound = checkEntries(storage, header, entries, image, findings, repairs, options)
  if (sound.counted !== header.allocated) {
    const message = `ERROR: allocated blocks mismatch, is ${sound.counted}, should be ${header.allocated}`
    const offset = header.version === 1 ? 368 : 388
    // Written by the commit below.
    if (findings.add({ kind: 'corruption', message, offset }, true)) repairs.push(() => undefined)
  }
  checkEnd(storage, header, entries, image, sound.next, findings, repairs)
  const holes = sound.next - sound.distinct
  if (holes > 0) {
    const message = `Leaked blocks: ${holes} in the file that nothing uses`
    if (findings.add({ kind: 'leak', message, length: holes }, true)) repairs.push(() => undefined)
  }
  if (repairs.length > 0 && options.dryRun !== true) {
    if (image === undefined) throw vdiError('IMG_READ_ONLY', 'it is not open for writing', storage.label)
    await image.begin()
    for (const repair of repairs) await repair()
    await image.settle(options)
    // A second time: where the count alone was wrong, the first one had nothing else to write.
    image.setHeader({})
    await image.settle(options)
  }
  return findings.result()
}

interface Sound {
  /** Entries with a block in the file. */
  readonly counted: number
  /** Blocks that they have. */
  readonly distinct: number
  /** The block of the file behind the last of them. */
  readonly next: number
}

function checkEntries(
  storage: Storage,
  header: BlockMap['header'],
  entries: Uint32Array,
  image: WritableImage | undefined,
  findings: Findings,
  repairs: (() => Promise<void> | void)[],
  options: CheckOptions,
): Sound {
  const total = header.blockSize + header.blockExtra
  const taken = new Uint8Array(Math.max(0, Math.ceil((storage.size - header.dataOffset) / total)))
  const overlay = header.type === ImageType.differencing || header.type === ImageType.undo
  let counted = 0
  let distinct = 0
  let next = 0
  for (let block = 0; block < entries.length; block++) {
    const entry = entries[block] as number
    if (entry >= ZERO) continue
    const offset = header.mapOffset + block * 4
    if (entry >= taken.length) {
      const message = `ERROR: block index ${block} too large, is ${entry}`
      if (findings.add({ kind: 'corruption', message, offset }, true)) {
        repairs.push(() => image?.forget(block, overlay ? ZERO : FREE))
      }
      continue
    }
    counted++
    next = Math.max(next, entry + 1)
    if (taken[entry] === 0) distinct++
    else {
      const message = `ERROR: block index ${entry} also used by ${entry}`
      if (findings.add({ kind: 'corruption', message, offset }, true)) {
        repairs.push(() => image?.copyOwn(block, options))
      }
    }
    taken[entry] = 1
  }
  return { counted, distinct, next }
}

/** What the file has behind the last block, or lacks of it. */
function checkEnd(
  storage: Storage,
  header: BlockMap['header'],
  entries: Uint32Array,
  image: WritableImage | undefined,
  next: number,
  findings: Findings,
  repairs: (() => Promise<void> | void)[],
): void {
  const end = header.dataOffset + next * (header.blockSize + header.blockExtra)
  if (storage.size > end && header.version !== 1) {
    const spare = Math.ceil((storage.size - end) / (header.blockSize + header.blockExtra))
    const message = `Leaked blocks: the file goes on for ${storage.size - end} bytes behind the last one`
    if (findings.add({ kind: 'leak', message, offset: end, length: spare }, true)) {
      repairs.push(() => image?.cutFile())
    }
  }
  if (next === 0) return
  const block = entries.indexOf(next - 1)
  const visible = Math.min(header.blockSize, header.size - block * header.blockSize)
  const needed = blockOffset(header, next - 1) + visible
  if (needed <= storage.size) return
  const message = `ERROR: the file ends inside block ${block} of the disk, at ${storage.size} of ${needed} bytes`
  if (findings.add({ kind: 'corruption', message, offset: storage.size }, true)) {
    repairs.push(() => image?.storage.truncate(end))
  }
}
