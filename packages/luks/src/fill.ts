import type { IoOptions, Storage } from '@img/core'

const zeros = new Uint8Array(256 * 1024)

/** Writes zeros, which an encrypting storage turns into what decrypts to them. */
export async function writeZeros(
  storage: Storage,
  offset: number,
  length: number,
  options: IoOptions,
): Promise<void> {
  for (let at = 0; at < length; at += zeros.length) {
    options.signal?.throwIfAborted()
    await storage.write?.(offset + at, zeros.subarray(0, length - at), options)
  }
}
