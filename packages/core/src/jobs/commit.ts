import type { Extent } from '../block.js'
import { alignDown } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { DiskImage } from '../image.js'
import { pageAligned } from '../page-aligned.js'
import { isWritable, type WritableStorage } from '../storage.js'
import { assertStored } from './assert-stored.js'
import { readsZero } from './batches.js'
import type { JobOptions } from './types.js'

/** Options of {@link commit}. */
export interface CommitOptions extends JobOptions {
  /**
   * The layer of the image's own chain that is written into, opened for writing (`writableBacking` of `openImage`).
   * Default: the backing file.
   */
  readonly base?: DiskImage | undefined
  /** Leave the image as it is, to be deleted by the caller. Always so where `base` is further down than the backing file. */
  readonly drop?: boolean | undefined
  /** Nothing is written: the result says what would have been. */
  readonly dryRun?: boolean | undefined
}

/** What {@link commit} did. */
export interface CommitResult {
  /** Guest bytes written into the base. */
  readonly copied: number
  /** The image holds nothing of its own any more. False also where its format cannot be emptied. */
  readonly emptied: boolean
}

/** Guest bytes moved at once. */
const step = 2 * 1024 * 1024

/**
 * Writes what an image, and the layers between it and a base, hold into that base. The base is made larger where it is
 * smaller than the image; what it has beyond the image's end stays. Nothing is written where the image's tables are damaged
 * or point outside its files. The base is durable before the image is emptied: whatever happens on the way, the image reads
 * as before. Layers in between no longer are what they were.
 * @throws {ImageError} IMG_UNSUPPORTED without a backing file; IMG_BAD_OPTION where `base` is not in the chain;
 * IMG_READ_ONLY where base or image is not open for writing; as reading and writing. An abort rejects with the signal's reason.
 */
export async function commit(image: DiskImage, options: CommitOptions = {}): Promise<CommitResult> {
  const { signal } = options
  signal?.throwIfAborted()
  const base = options.base ?? image.backing
  if (base === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', 'Image does not have a backing file', {
      source: image.storage.label,
    })
  }
  const depth = depthOf(image, base)
  const drop = options.drop === true || depth > 1
  const { empty } = image
  if (base.write === undefined || base.writeZeroes === undefined) throw readOnly(base)
  if (!drop && empty === undefined && image.driver.empty !== undefined) throw readOnly(image)
  // Before anything is written: a base that holds half of it is neither the old disk nor the new one.
  await assertStored(image, depth, { signal })
  if (base.size < image.size) {
    if (base.resize === undefined) {
      throw new ImageError(
        'IMG_UNSUPPORTED',
        `${base.storage.label} is smaller than ${image.storage.label}, and cannot be made larger`,
        { format: base.format.name, source: base.storage.label },
      )
    }
    if (options.dryRun !== true) await base.resize(image.size, { signal })
  }
  const copied = await copyDown(image, base, depth, options)
  if (options.dryRun === true) return { copied, emptied: !drop && empty !== undefined }
  await base.flush?.({ signal })
  if (drop || empty === undefined) return { copied, emptied: false }
  signal?.throwIfAborted()
  await empty.call(image, { signal })
  return { copied, emptied: true }
}

/** How far down the chain a layer is: 1 for the backing file. */
function depthOf(image: DiskImage, base: DiskImage): number {
  let depth = 1
  for (let layer = image.backing; layer !== undefined; layer = layer.backing) {
    if (layer === base) return depth
    depth++
  }
  throw new ImageError(
    'IMG_BAD_OPTION',
    `Did not find '${base.storage.label}' in the backing chain of '${image.storage.label}'`,
    { source: image.storage.label },
  )
}

function readOnly(image: DiskImage): ImageError {
  return new ImageError('IMG_READ_ONLY', `${image.storage.label} is not open for writing`, {
    format: image.format.name,
    source: image.storage.label,
  })
}

async function copyDown(
  image: DiskImage,
  base: DiskImage,
  depth: number,
  options: CommitOptions,
): Promise<number> {
  const { signal, dryRun = false } = options
  const io = { signal }
  const total = image.size
  const buffers = [pageAligned(Math.min(step, total)), pageAligned(Math.min(step, total))]
  let copied = 0
  let writing: Promise<void> = Promise.resolve()
  const early = new EarlyFlush(base)
  // Reads one piece while the one before is written.
  const copy = async (offset: number, end: number): Promise<void> => {
    if (dryRun) copied += end - offset
    if (dryRun) return
    for (let at = offset; at < end; ) {
      signal?.throwIfAborted()
      const stop = Math.min(end, alignDown(at, step) + step)
      const bytes = (buffers[0] as Uint8Array).subarray(0, stop - at)
      buffers.reverse()
      await image.read(at, bytes, io)
      await writing
      writing = base.write?.(at, bytes, io) ?? Promise.resolve()
      // Told of by the next step.
      writing.catch(() => undefined)
      copied += bytes.length
      at = stop
      early.after(bytes.length)
    }
  }
  let start = -1
  let end = 0
  try {
    for await (const extent of image.extents({ holes: true, signal })) {
      const kind = held(extent, depth)
      if (kind === 'data') {
        if (start < 0) start = extent.offset
        end = extent.offset + extent.length
        if (end - start < step) continue
      }
      if (start >= 0) await copy(start, end)
      start = -1
      if (kind === 'zero') {
        await writing
        if (!dryRun) await base.writeZeroes?.(extent.offset, extent.length, io)
      }
      options.onProgress?.({ done: extent.offset + extent.length, total, unit: 'bytes', phase: 'commit' })
    }
    if (start >= 0) await copy(start, end)
    await writing
    await early.done()
  } finally {
    await writing.catch(() => undefined)
    await early.done().catch(() => undefined)
  }
  options.onProgress?.({ done: total, total, unit: 'bytes', phase: 'commit' })
  return copied
}

/** What the layers above the base say of a range. */
function held(extent: Extent, depth: number): 'data' | 'zero' | 'nothing' {
  if (extent.depth >= depth) return 'nothing'
  // Nothing in a layer whose own backing file has ended: zeros, unless that backing file is the base.
  if (extent.kind === 'unallocated' && extent.depth === depth - 1) return 'nothing'
  return readsZero(extent) ? 'zero' : 'data'
}

/** Bytes after which the host is asked to begin storing what was written. */
const flushStep = 32 * 1024 * 1024

/** Has data stored while more is copied: all of it has to be durable in the end, and would be waited for then. */
class EarlyFlush {
  readonly #storage: WritableStorage | undefined
  #bytes = 0
  #busy = false
  #flushing: Promise<void> = Promise.resolve()

  constructor({ storage }: DiskImage) {
    this.#storage = isWritable(storage) ? storage : undefined
  }

  after(bytes: number): void {
    this.#bytes += bytes
    if (this.#busy || this.#bytes < flushStep || this.#storage === undefined) return
    this.#bytes = 0
    this.#busy = true
    this.#flushing = this.#storage.flush().then(() => {
      this.#busy = false
    })
    // Told of by `done`. After a failure there is no further try: `#busy` stays.
    this.#flushing.catch(() => undefined)
  }

  /** @throws {ImageError} where data could not be stored: it is told only once by some hosts. */
  done(): Promise<void> {
    return this.#flushing
  }
}
