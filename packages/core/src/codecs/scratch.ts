// Above this a working buffer is not kept: 2 MiB clusters, the largest of qcow2, fit with their bound.
const KEEP_BYTES = 4 * 1024 * 1024

/**
 * A working buffer that grows and is reused. `take(length)` gives at least `length` bytes of undefined content, valid
 * until the next call.
 */
export class Scratch {
  #kept = new Uint8Array(0)

  take(length: number): Uint8Array<ArrayBuffer> {
    if (length <= this.#kept.length) return this.#kept
    const bytes = new Uint8Array(length)
    if (length <= KEEP_BYTES) this.#kept = bytes
    return bytes
  }
}

/**
 * Most bytes that zlib can make of `length` bytes with any level, window and memLevel 9: the bounds for stored and for
 * fixed blocks of `deflateBound` in zlib's deflate.c, rounded up, with a margin for header and checksum.
 */
export function deflateBound(length: number): number {
  return length + Math.ceil(length / 8) + Math.ceil(length / 64) + 64
}
