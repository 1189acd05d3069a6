import type { BlockDevice, Extent } from '../block.js'
import { alignDown, alignUp } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { Reference } from '../format.js'
import type { DiskImage } from '../image.js'
import { pageAligned } from '../page-aligned.js'
import type { IoOptions } from '../storage.js'
import { isZero } from '../zero.js'
import { firstDifference } from './compare.js'
import { ExtentCursor } from './extent-cursor.js'
import { isSamePlace } from './same-place.js'
import type { JobOptions } from './types.js'

/** Options of {@link rebase}. */
export interface RebaseOptions extends JobOptions {
  /** The new backing file as the image is to name it. Undefined: it is to have none. */
  readonly reference: Reference | undefined
  /** That file, opened with its own chain. Needed with `reference`, unless `unsafe`. Stays the caller's to close. */
  readonly backing?: BlockDevice | undefined
  /** Only the name is changed: for a backing file that was moved, or converted. Nothing is read. */
  readonly unsafe?: boolean | undefined
  /** Nothing is written: the result says what would have been. */
  readonly dryRun?: boolean | undefined
}

/** What {@link rebase} did. */
export interface RebaseResult {
  /** Guest bytes copied from the old backing file into the image, zeros included. */
  readonly copied: number
}

/** Guest bytes compared at once, unless one cluster is larger. */
const step = 1024 * 1024

/**
 * Gives an image another backing file, or none. What the old and the new one hold differently, and the image does not hold
 * itself, is copied into the image first; that is durable before the header changes, so that the image reads the same at
 * every moment. The image, open for writing with its chain (`unsafe`: without is enough), cannot be read afterwards: it has
 * to be opened again.
 * @throws {ImageError} IMG_UNSUPPORTED for a format without backing files, IMG_READ_ONLY; as reading and writing. An abort
 * rejects with the signal's reason.
 */
export async function rebase(image: DiskImage, options: RebaseOptions): Promise<RebaseResult> {
  const { reference, unsafe = false, signal } = options
  signal?.throwIfAborted()
  assertRebases(image)
  const copied = unsafe ? 0 : await copyDifferences(image, options)
  signal?.throwIfAborted()
  if (options.dryRun === true) return { copied }
  await image.flush?.({ signal })
  await image.setBacking?.(reference, { signal })
  return { copied }
}

function assertRebases(image: DiskImage): void {
  const details = { format: image.format.name, source: image.storage.label }
  if (image.driver.setBacking === undefined) {
    const message = `images of format ${image.format.name} cannot be given another backing file`
    throw new ImageError('IMG_UNSUPPORTED', message, details)
  }
  if (image.setBacking === undefined || image.write === undefined || image.writeZeroes === undefined) {
    throw new ImageError('IMG_READ_ONLY', `${image.storage.label} is not open for writing`, details)
  }
}

/** Adjoining ranges that the image does not hold, with what of them may differ. */
interface Stretch {
  start: number
  end: number
  readonly suspects: { readonly start: number; readonly end: number }[]
}

async function copyDifferences(image: DiskImage, options: RebaseOptions): Promise<number> {
  const { backing, reference, signal } = options
  if (reference !== undefined && backing === undefined) {
    throw new TypeError('the new backing file has to be opened, to be compared with the old one')
  }
  const total = image.size
  const unit = Math.max(step, image.clusterSize)
  const copier = new Copier(image, backing, unit, { signal, dryRun: options.dryRun })
  const cursor = new ExtentCursor(backing, { holes: true, signal })
  let stretch: Stretch = { start: 0, end: 0, suspects: [] }
  const finish = async (): Promise<void> => {
    if (stretch.suspects.length > 0) await copier.stretch(stretch)
    options.onProgress?.({ done: stretch.end, total, unit: 'bytes', phase: 'rebase' })
  }
  try {
    for await (const extent of image.extents({ holes: true, signal })) {
      const end = extent.offset + extent.length
      if (!isBelow(extent)) continue
      for (let at = extent.offset; at < end; ) {
        signal?.throwIfAborted()
        const other = await cursor.at(at)
        const same = isSamePlace(extent, other, at)
        // What is the same is passed at once; the rest in pieces.
        const limit = same ? end : alignDown(at, unit) + unit
        const stop = Math.min(end, limit, other === undefined ? end : other.offset + other.length)
        if (at !== stretch.end || at % unit === 0) {
          await finish()
          stretch = { start: at, end: at, suspects: [] }
        }
        stretch.end = stop
        if (!same) stretch.suspects.push({ start: at, end: stop })
        at = stop
      }
    }
    await finish()
  } finally {
    await cursor.close()
  }
  options.onProgress?.({ done: total, total, unit: 'bytes', phase: 'rebase' })
  return copier.copied
}

/** Not held by the image itself. */
function isBelow(extent: Extent): boolean {
  return extent.depth > 0 || extent.kind === 'unallocated'
}

/** Compares old and new, cluster by cluster of the image, and copies what differs. */
class Copier {
  copied = 0
  readonly #image: DiskImage
  readonly #backing: BlockDevice | undefined
  readonly #options: IoOptions
  readonly #dryRun: boolean
  readonly #old: Uint8Array
  readonly #new: Uint8Array

  constructor(
    image: DiskImage,
    backing: BlockDevice | undefined,
    unit: number,
    { signal, dryRun = false }: Pick<RebaseOptions, 'signal' | 'dryRun'>,
  ) {
    this.#image = image
    this.#backing = backing
    this.#options = { signal }
    this.#dryRun = dryRun
    this.#old = pageAligned(unit)
    this.#new = pageAligned(unit)
  }

  /** Compares suspects, made whole clusters as far as the image does not hold these itself. */
  async stretch({ start, end, suspects }: Stretch): Promise<void> {
    const { clusterSize } = this.#image
    let done = start
    for (const suspect of suspects) {
      const from = Math.max(done, alignDown(suspect.start, clusterSize))
      done = Math.min(end, alignUp(suspect.end, clusterSize))
      for (let at = from; at < done; at += this.#old.length) {
        await this.#range(at, Math.min(done, at + this.#old.length))
      }
    }
  }

  async #range(from: number, to: number): Promise<void> {
    const before = this.#old.subarray(0, to - from)
    const after = this.#new.subarray(0, to - from)
    await this.#read(this.#image.backing, from, before)
    await this.#read(this.#backing, from, after)
    if (firstDifference(before, after) < 0) return
    const { clusterSize } = this.#image
    let start = -1
    for (let at = from; at < to; ) {
      const next = Math.min(to, alignDown(at, clusterSize) + clusterSize)
      const same =
        firstDifference(before.subarray(at - from, next - from), after.subarray(at - from, next - from)) < 0
      if (!same && start < 0) start = at
      if (same && start >= 0) {
        await this.#copy(start, before.subarray(start - from, at - from))
        start = -1
      }
      at = next
    }
    if (start >= 0) await this.#copy(start, before.subarray(start - from))
  }

  /** Bytes of a backing file, zeros beyond its end. */
  async #read(device: BlockDevice | undefined, offset: number, into: Uint8Array): Promise<void> {
    const there = device === undefined ? 0 : Math.max(0, Math.min(into.length, device.size - offset))
    into.fill(0, there)
    if (there > 0) await device?.read(offset, into.subarray(0, there), this.#options)
  }

  /** Writes what the old backing file showed, whole clusters of zeros as such. */
  async #copy(offset: number, bytes: Uint8Array): Promise<void> {
    const { clusterSize } = this.#image
    this.copied += bytes.length
    if (this.#dryRun) return
    for (let at = 0; at < bytes.length; ) {
      const zero = isZero(bytes, at, this.#clusterEnd(offset, at, bytes.length, clusterSize))
      let end = at
      while (end < bytes.length) {
        const next = this.#clusterEnd(offset, end, bytes.length, clusterSize)
        if (isZero(bytes, end, next) !== zero) break
        end = next
      }
      if (zero) {
        await this.#image.writeZeroes?.(offset + at, end - at, { ...this.#options, explicit: true })
      } else await this.#image.write?.(offset + at, bytes.subarray(at, end), this.#options)
      at = end
    }
  }

  #clusterEnd(offset: number, at: number, length: number, clusterSize: number): number {
    return Math.min(length, alignDown(offset + at, clusterSize) + clusterSize - offset)
  }
}
