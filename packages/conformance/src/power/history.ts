import type { DiskImage } from '@img/core'
import { firstDifference } from '../compare.js'
import { check, fail, outcome, works } from '../fault.js'
import type { SparseBytes } from '../sparse-bytes.js'

const sector = 512

/** What was done to the guest's disk, and when, counted in entries of the log of its files. */
export interface Deed {
  readonly name: string
  /** Length of the log when it began and when it was done. */
  readonly begun: number
  readonly done: number
  /** What the disk may hold once it is begun. */
  readonly contents: readonly SparseBytes[]
  /** Everything before is safe once it is done. */
  readonly flushed: boolean
  /** Snapshots that are there once it is done, by id. */
  readonly snapshots: ReadonlyMap<string, SparseBytes>
}

/** What a disk may hold after a cut. */
export interface Allowed {
  readonly contents: readonly SparseBytes[]
  /** What was flushed last: for messages. */
  readonly flushed: Deed
  /** Snapshots that must be there. */
  readonly snapshots: ReadonlyMap<string, SparseBytes>
}

/** What the deeds before a cut allow. The first deed is the image as it was made, flushed. */
export function allowedAt(deeds: readonly Deed[], position: number): Allowed {
  let last = 0
  deeds.forEach((deed, i) => {
    if (deed.flushed && deed.done <= position) last = i
  })
  const flushed = deeds[last] as Deed
  const since = deeds.slice(last + 1).filter(({ begun }) => begun <= position)
  const kept = [...flushed.snapshots].filter(([id]) => since.every(({ snapshots }) => snapshots.has(id)))
  return {
    contents: [...flushed.contents, ...since.flatMap(({ contents }) => contents)],
    flushed,
    snapshots: new Map(kept),
  }
}

/** Demands that each sector of the disk is as it was flushed, or as it was made since. */
export async function holds(image: DiskImage, allowed: Allowed): Promise<void> {
  const { contents, flushed } = allowed
  const sizes = new Set(contents.map(({ size }) => size))
  check(
    sizes.has(image.size),
    `the disk is ${image.size} bytes long, which it never was: ${[...sizes].join(', ')}`,
  )
  const now = await readAll(image)
  // Most cuts leave what was flushed.
  if (contents.some((content) => content.size === now.length && equal(now, content.slice(0, now.length))))
    return
  const states = contents.map((content) => ({ size: content.size, bytes: content.slice(0, now.length) }))
  for (let at = 0; at < now.length; at += sector) {
    const end = Math.min(now.length, at + sector)
    const fits = states.some(({ size, bytes }) => at < size && equalPart(now, bytes, at, end))
    if (fits) continue
    const safe = states[0]?.bytes ?? new Uint8Array(now.length)
    const first = at + now.subarray(at, end).findIndex((byte, i) => byte !== safe[at + i])
    fail(
      `guest offset ${first} reads as 0x${now[first]?.toString(16)}; it was flushed as 0x${safe[first]?.toString(16)} (by ${flushed.name}), and nothing written since fits`,
    )
  }
}

/** Demands that the snapshots that were flushed are there, as they were. */
export async function holdsSnapshots(image: DiskImage, { snapshots }: Allowed): Promise<void> {
  const store = image.snapshots
  if (!store) return
  const list = await works('listing snapshots', () => store.list())
  for (const { id } of list) {
    const opened = await works(`opening snapshot ${id}`, () => store.open(id))
    const content = snapshots.get(id)
    if (content) {
      const now = await works(`reading snapshot ${id}`, () => readAll(opened))
      const same = content.size === now.length && equal(now, content.slice(0, now.length))
      check(same, `snapshot ${id} is not what it was when it was flushed`)
    }
    await opened.close()
  }
  for (const id of snapshots.keys()) {
    check(
      list.some((snapshot) => snapshot.id === id),
      `snapshot ${id} was flushed, and is gone`,
    )
  }
}

/** All that the guest sees; a failure is a fault. */
export async function readAll(image: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size)
  const result = await outcome(() => image.read(0, bytes))
  if (result.failed) fail(`it cannot be read: ${String(result.error)}`, result.error)
  return bytes
}

/** True for the same bytes. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return firstDifference(a, b) < 0
}

function equalPart(a: Uint8Array, b: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (a[i] !== b[i]) return false
  return true
}
