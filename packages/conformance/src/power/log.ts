import type { ImageFiles } from '../image-files.js'
import type { Random } from '../random.js'
import type { FileHook } from '../session.js'
import { SparseBytes } from '../sparse-bytes.js'

const sector = 512

/** A change of one file, or a barrier. */
export interface Change {
  readonly file: string
  readonly op: 'write' | 'zero' | 'truncate' | 'flush'
  readonly offset: number
  readonly length: number
  readonly bytes?: Uint8Array
}

/** Files as a power cut may leave them. */
export interface Cut {
  readonly files: ImageFiles
  /** Entries of the log before the cut. */
  readonly position: number
  /** In words. */
  readonly how: string
}

/** Everything that is done to the files of an image, in order. */
export class Log {
  readonly changes: Change[] = []

  /** Writes calls down before they are done. */
  get hook(): FileHook {
    return ({ op, offset, length, bytes }, file) => {
      if (op === 'write' && bytes) this.changes.push({ file, op, offset, length, bytes: bytes.slice() })
      else if (op === 'truncate' || op === 'flush') this.changes.push({ file, op, offset, length })
      // What is discarded reads as zeros here; any host may do so.
      else if (op === 'writeZeroes' || op === 'discard')
        this.changes.push({ file, op: 'zero', offset, length })
    }
  }

  /** What a crash of the program alone may leave: the changes up to each point, in order. */
  *prefixes(start: ImageFiles): Generator<Cut> {
    const files = start.fork()
    for (const [position, change] of this.changes.entries()) {
      if (change.op === 'flush') continue
      yield {
        files: files.fork(),
        position,
        how: `stopped before change ${position + 1} of ${this.changes.length}`,
      }
      apply(files, change)
    }
  }

  /** How many cuts there are. */
  countCuts(tries: number): number {
    let count = 0
    let pending = 0
    for (const { op } of [...this.changes, { op: 'flush' }]) {
      if (op !== 'flush') {
        pending++
        continue
      }
      count += 1 + pending * 3 + (pending > 0 ? tries * 2 : 0)
      pending = 0
    }
    return count
  }

  /**
   * What a power cut may leave: before every flush, any part of what was changed since the last one, down to sectors
   * of 512 bytes. All single losses, all single survivors, every prefix, and random parts.
   */
  *cuts(
    start: ImageFiles,
    random: Random,
    tries: number,
    wanted: () => boolean = () => true,
  ): Generator<Cut> {
    const durable = start.fork()
    const live = start.fork()
    let pending: Change[] = []
    for (const [position, change] of this.changes.entries()) {
      if (change.op !== 'flush') {
        apply(live, change)
        pending.push(wholeSectors(change, live))
        continue
      }
      yield* variations(durable, pending, position, random, tries, wanted)
      for (const done of pending) if (done.file === change.file) apply(durable, done)
      pending = pending.filter(({ file }) => file !== change.file)
    }
    yield* variations(durable, pending, this.changes.length, random, tries, wanted)
  }
}

/** A change with the whole of the sectors it touches, as they were then: a disk never keeps less of one. */
function wholeSectors(change: Change, live: ImageFiles): Change {
  const target = change.file === '' ? live.main : live.others.get(change.file)
  if (change.op === 'truncate' || target === undefined) return change
  const start = change.offset - (change.offset % sector)
  const end = Math.min(target.size, Math.ceil((change.offset + change.length) / sector) * sector)
  const length = end - start
  if (change.op === 'zero' && length <= change.length) return change
  return { ...change, op: 'write', offset: start, length, bytes: target.slice(start, length) }
}

/** Which parts of a change are kept. */
type Keep = (change: Change, index: number) => Iterable<Change>

function* variations(
  durable: ImageFiles,
  pending: readonly Change[],
  position: number,
  random: Random,
  tries: number,
  wanted: () => boolean,
): Generator<Cut> {
  const { length } = pending
  // File systems lose data in any order, but changes of a file's size only from the last one on.
  const made = (how: string, sizes: number, keep: Keep): Cut => {
    const files = durable.fork()
    pending.forEach((change, index) => {
      for (const part of keep(change, index)) applyPart(files, part, index < sizes)
      // What a lost write would have added to the file is lost with it.
      if (index < sizes && change.op === 'truncate') apply(files, change)
    })
    return { files, position, how: `${how} (of ${length} changes between two flushes)` }
  }
  for (let count = 0; count <= length; count++) {
    if (wanted())
      yield made(`only the first ${count} kept`, count, (change, i) => (i < count ? [change] : []))
  }
  for (const [index, change] of pending.entries()) {
    if (length < 2) break
    const name = `${change.op} of ${change.length} bytes at ${change.offset}`
    const sizes = change.op === 'truncate' ? index : length
    if (wanted()) yield made(`${name} lost`, sizes, (other, i) => (i === index ? [] : [other]))
    if (wanted())
      yield made(`nothing but the ${name} kept`, index + 1, (other, i) => (i === index ? [other] : []))
  }
  if (length === 0) return
  for (let i = 0; i < tries; i++) {
    const sizes = random.below(length + 1)
    if (wanted())
      yield made('some kept, others lost', sizes, (change) => (random.chance(0.5) ? [change] : []))
    if (wanted())
      yield made('single sectors kept', length, (change) =>
        sectorsOf(change).filter(() => random.chance(0.6)),
      )
  }
}

/** Applies what is kept of a change; without its change of the file's size, only inside the file. */
function applyPart(files: ImageFiles, change: Change, resizes: boolean): void {
  if (change.op === 'truncate') return
  const { size } = targetOf(files, change.file)
  const length = resizes ? change.length : Math.max(0, Math.min(change.length, size - change.offset))
  apply(files, { ...change, length, ...(change.bytes && { bytes: change.bytes.subarray(0, length) }) })
}

/** A write in pieces that a disk writes whole or not at all. */
function sectorsOf(change: Change): Change[] {
  if (change.op === 'truncate') return [change]
  const parts: Change[] = []
  const end = change.offset + change.length
  for (let at = change.offset; at < end; ) {
    const next = Math.min(end, at - (at % sector) + sector)
    const bytes = change.bytes?.subarray(at - change.offset, next - change.offset)
    parts.push({ ...change, offset: at, length: next - at, ...(bytes && { bytes }) })
    at = next
  }
  return parts
}

function apply(files: ImageFiles, { file, op, offset, length, bytes }: Change): void {
  const target = targetOf(files, file)
  if (op === 'write' && bytes) target.write(offset, bytes)
  else if (op === 'zero') target.zero(offset, length)
  else if (op === 'truncate') target.truncate(offset)
}

function targetOf(files: ImageFiles, file: string): SparseBytes {
  let target = file === '' ? files.main : files.others.get(file)
  if (target === undefined) {
    target = new SparseBytes()
    files.others.set(file, target)
  }
  return target
}
