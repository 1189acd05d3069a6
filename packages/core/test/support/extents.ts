import { expect } from 'vitest'
import type { BlockDevice, Extent, ExtentOptions } from '../../src/block.js'
import { isZero } from '../../src/zero.js'
import { collect } from './disks.js'

/** The same bytes; tells the first that differs. Fast, where matchers look at every element. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) === 0) return
  expect(actual.length).toBe(expected.length)
  const at = actual.findIndex((byte, i) => byte !== expected[i])
  expect([`byte ${at}`, actual[at]]).toEqual([`byte ${at}`, expected[at]])
}

/** Extents of a range, checked: ascending, gap-free, covering it exactly, no two zero-length. */
export async function extentsOf(device: BlockDevice, options: ExtentOptions = {}): Promise<Extent[]> {
  const extents = await collect(device.extents(options))
  const start = options.offset ?? 0
  let at = start
  for (const { offset, length } of extents) {
    expect(offset).toBe(at)
    expect(length).toBeGreaterThan(0)
    at += length
  }
  expect(at).toBe(start + (options.length ?? device.size - start))
  return extents
}

/**
 * Checks that what extents say agrees with what is read: zero and unallocated runs and holes read as zeros, data runs as
 * the bytes that stand at their place.
 */
export async function checkExtents(
  device: BlockDevice,
  content: Uint8Array,
  options: ExtentOptions = {},
): Promise<Extent[]> {
  const extents = await extentsOf(device, options)
  for (const extent of extents) {
    const guest = content.subarray(extent.offset, extent.offset + extent.length)
    if (extent.kind === 'data') {
      const host = new Uint8Array(extent.length)
      const inside = Math.max(0, Math.min(extent.length, extent.storage.size - extent.hostOffset))
      await extent.storage.read(extent.hostOffset, host.subarray(0, inside))
      expectBytes(host, guest)
      if (extent.hole === true) expect(isZero(guest)).toBe(true)
    } else if (extent.kind !== 'compressed') {
      expect(isZero(guest)).toBe(true)
    }
  }
  return extents
}
