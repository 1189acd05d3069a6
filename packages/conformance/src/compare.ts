import { type BlockDevice, isZero } from '@img/core'
import { check, fail, works } from './fault.js'
import type { SparseBytes } from './sparse-bytes.js'

/** Disks up to this size are read whole. */
const wholeBytes = 64 * 1024 * 1024
const step = 1024 * 1024
/** Read around what was written to a larger disk. */
const margin = 65536

/** Demands that the guest sees exactly this. */
export async function sameContent(device: BlockDevice, expected: SparseBytes, what: string): Promise<void> {
  check(
    device.size === expected.size,
    `${what}: the disk is ${device.size} bytes long, expected ${expected.size}`,
  )
  if (expected.size <= wholeBytes) return sameRange(device, expected, 0, expected.size, what)
  for (const run of expected.runs()) {
    if (!run.data) continue
    const start = Math.max(0, run.offset - margin)
    const end = Math.min(expected.size, run.offset + run.length + margin)
    await sameRange(device, expected, start, end - start, what)
  }
  await noOtherData(device, expected, what)
}

/** Demands that the guest sees exactly this in one range. */
export async function sameRange(
  device: BlockDevice,
  expected: SparseBytes,
  offset: number,
  length: number,
  what: string,
): Promise<void> {
  for (let at = offset; at < offset + length; at += step) {
    const part = Math.min(step, offset + length - at)
    const actual = new Uint8Array(part)
    await works(`${what}: reading ${part} bytes at ${at}`, () => device.read(at, actual))
    sameBytes(actual, expected.slice(at, part), at, what)
  }
}

/** Demands equal bytes; `base` is the guest offset of the first. */
export function sameBytes(actual: Uint8Array, expected: Uint8Array, base: number, what: string): void {
  const at = firstDifference(actual, expected)
  if (at < 0) return
  fail(`${what}: guest offset ${base + at} reads as ${hex(actual[at])}, expected ${hex(expected[at])}`)
}

interface NodeBuffer {
  compare(a: Uint8Array, b: Uint8Array): number
}
const NodeBuffer = (globalThis as { Buffer?: NodeBuffer }).Buffer

/** Index of the first byte that differs; -1 where none does. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (NodeBuffer?.compare(a, b) === 0) return -1
  const length = Math.max(a.length, b.length)
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i
  return -1
}

function hex(byte: number | undefined): string {
  return byte === undefined ? 'nothing' : `0x${byte.toString(16).padStart(2, '0')}`
}

/** In a disk too large to be read: what the extents call data, away from what was written, is zero. */
async function noOtherData(device: BlockDevice, expected: SparseBytes, what: string): Promise<void> {
  let left = wholeBytes
  for await (const extent of device.extents({ holes: true })) {
    const hole = extent.kind === 'data' && extent.hole === true
    if (hole || extent.kind === 'zero' || extent.kind === 'unallocated') continue
    for (const run of expected.runs(extent.offset, Math.min(left, extent.length))) {
      if (run.data) continue
      for (let at = run.offset; at < run.offset + run.length; at += step) {
        const bytes = new Uint8Array(Math.min(step, run.offset + run.length - at))
        await works(`${what}: reading at ${at}`, () => device.read(at, bytes))
        if (!isZero(bytes)) {
          const first = at + bytes.findIndex((byte) => byte !== 0)
          fail(`${what}: guest offset ${first} holds data where nothing was written`)
        }
      }
      left -= run.length
    }
    if (left <= 0) return
  }
}
