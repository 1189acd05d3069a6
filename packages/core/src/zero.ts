import { alignDown, alignUp } from './bytes.js'

/** Bytes compared at a time; also the size of {@link zeroBlock}. */
const blockBytes = 65536

/** 64 KiB of zeros to write or to compare with. Never write into it. */
export const zeroBlock: Uint8Array = new Uint8Array(blockBytes)

interface NodeBuffer {
  compare(target: Uint8Array, targetStart: number, targetEnd: number, start: number, end: number): number
}
interface NodeBufferType {
  from(buffer: ArrayBufferLike, offset: number, length: number): NodeBuffer
}

// Node's memcmp is three times as fast as any loop over a typed array.
const NodeBuffer = (globalThis as { Buffer?: NodeBufferType }).Buffer

/** True where bytes [start, end) are all zero. */
export function isZero(bytes: Uint8Array, start = 0, end: number = bytes.length): boolean {
  if (start >= end) return true
  if (bytes[start] !== 0 || bytes[end - 1] !== 0 || bytes[Math.floor((start + end) / 2)] !== 0) return false
  return NodeBuffer !== undefined && end - start > 64
    ? isZeroNode(NodeBuffer, bytes, start, end)
    : isZeroPortable(bytes, start, end)
}

function isZeroNode(type: NodeBufferType, bytes: Uint8Array, start: number, end: number): boolean {
  const buffer = type.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = start; at < end; at += blockBytes) {
    const length = Math.min(blockBytes, end - at)
    if (buffer.compare(zeroBlock, 0, length, at, at + length) !== 0) return false
  }
  return true
}

/** The same without Node: exported for tests. */
export function isZeroPortable(bytes: Uint8Array, start: number, end: number): boolean {
  const base = bytes.byteOffset
  const firstWord = alignUp(base + start, 4) - base
  const lastWord = alignDown(base + end, 4) - base
  if (firstWord >= lastWord) return areZero(bytes, start, end)
  const words = new Uint32Array(bytes.buffer, base + firstWord, (lastWord - firstWord) / 4)
  return areZero(bytes, start, firstWord) && areZero(words, 0, words.length) && areZero(bytes, lastWord, end)
}

function areZero(items: Uint8Array | Uint32Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (items[at] !== 0) return false
  return true
}

/**
 * Where the first run of equal kind (zero or not) ends, in steps of `unit`: the scan behind sparse copies.
 * Returns the length in bytes of that run from `start` and whether it is zero.
 */
export function zeroRun(
  bytes: Uint8Array,
  start: number,
  end: number,
  unit: number,
): { readonly length: number; readonly zero: boolean } {
  let at = Math.min(end, start + unit)
  const zero = isZero(bytes, start, at)
  while (at < end) {
    const next = Math.min(end, at + unit)
    if (isZero(bytes, at, next) !== zero) break
    at = next
  }
  return { length: at - start, zero }
}
