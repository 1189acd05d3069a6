import type { BlockDevice } from '@img/core'
import { expect } from 'vitest'

/** `length` bytes, none of them zero, that differ with `seed`. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = ((i * 7 + seed * 31 + Math.floor(i / 251)) % 255) + 1
  return bytes
}

/** The same bytes: fast, where matchers look at every element. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) === 0) return
  expect(actual.length).toBe(expected.length)
  const at = actual.findIndex((byte, i) => byte !== expected[i])
  expect([`byte ${at}`, actual[at]]).toEqual([`byte ${at}`, expected[at]])
}

/** The whole disk. */
export async function readAll(device: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size)
  await device.read(0, bytes)
  return bytes
}

/** Several arrays as one. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

/** What is thrown or rejected with, as plain facts. */
export const refusal = (code: string, message = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(message) })
