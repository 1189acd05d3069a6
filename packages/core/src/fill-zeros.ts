import type { IoOptions, WritableStorage } from './storage.js'
import { zeroBlock } from './zero.js'

/** Makes a range of bytes hold zeros that take room; never a hole. */
export async function fillZeros(
  storage: WritableStorage,
  offset: number,
  length: number,
  options: IoOptions,
): Promise<void> {
  const { signal } = options
  if (storage.writeZeroes) return storage.writeZeroes(offset, length, { signal, unmap: false })
  for (let at = 0; at < length; at += zeroBlock.length) {
    await storage.write(offset + at, zeroBlock.subarray(0, Math.min(zeroBlock.length, length - at)), options)
  }
}
