import { type IoOptions, type WritableStorage, type ZeroOptions, zeroBlock } from '@img/core'

/** Writes bytes, at once where the storage can. */
export async function put(
  storage: WritableStorage,
  offset: number,
  bytes: Uint8Array,
  options?: IoOptions,
): Promise<void> {
  options?.signal?.throwIfAborted()
  if (storage.writeSync?.(offset, bytes)) return
  await storage.write(offset, bytes, options)
}

/** Makes a range of the file read as zeros, as a hole where the storage can. */
export async function zeroRange(
  storage: WritableStorage,
  offset: number,
  length: number,
  options?: ZeroOptions,
): Promise<void> {
  if (storage.writeZeroes) return storage.writeZeroes(offset, length, options)
  for (let at = 0; at < length; at += zeroBlock.length) {
    await put(storage, offset + at, zeroBlock.subarray(0, Math.min(zeroBlock.length, length - at)), options)
  }
}
