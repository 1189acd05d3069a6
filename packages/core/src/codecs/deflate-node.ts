import type { Codec, CompressOptions } from './codec.js'
import { corruptData, defineCodec, longData, shortData } from './define-codec.js'
import type { NodeZlib } from './node-zlib.js'
import { deflateBound } from './scratch.js'

/** The two wrappings of DEFLATE. */
export type DeflateName = 'deflate-raw' | 'zlib'

/** zlib's memLevel for all compression: qemu-img's, for the same size of result. */
export const MEM_LEVEL = 9

// A chunk a little larger than the output lets Node do with a single one.
const CHUNK_MARGIN = 64

// One more byte of input adds at most 4 matches of 258 bytes (two bits each) to the output, beside one under way.
const PREFIX_SLACK = 4096

function copyOf(bytes: Uint8Array): Uint8Array {
  // Node's result is a view of a whole chunk; a copy keeps no more memory than it shows.
  return new Uint8Array(bytes)
}

/** Compresses with Node's public one-shot calls. */
export function deflateOnce(
  zlib: NodeZlib,
  name: DeflateName,
  input: Uint8Array,
  { level, windowBits }: Required<CompressOptions>,
): Uint8Array {
  const options = { level, windowBits, memLevel: MEM_LEVEL, chunkSize: deflateBound(input.length) }
  return copyOf(name === 'zlib' ? zlib.deflateSync(input, options) : zlib.deflateRawSync(input, options))
}

/** Fills `target` with Node's public one-shot calls, which give nothing of a stream that is longer than wanted. */
export function inflateOnce(zlib: NodeZlib, name: DeflateName, input: Uint8Array, target: Uint8Array): void {
  if (name === 'zlib') inflateWhole(zlib, input, target)
  else inflateStart(zlib, input, target)
}

function isTooLarge(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === 'ERR_BUFFER_TOO_LARGE'
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function inflateWhole(zlib: NodeZlib, input: Uint8Array, target: Uint8Array): void {
  let output: Uint8Array
  try {
    const chunkSize = target.length + CHUNK_MARGIN
    output = zlib.inflateSync(input, { chunkSize, maxOutputLength: target.length })
  } catch (error) {
    if (isTooLarge(error)) throw longData('zlib', target.length)
    throw corruptData('zlib', messageOf(error), error)
  }
  if (output.length < target.length) throw shortData('zlib', output.length, target.length)
  target.set(output)
}

function inflateStart(zlib: NodeZlib, input: Uint8Array, target: Uint8Array): void {
  // With Z_SYNC_FLUSH the end of the input is not an error, and all that can be decoded comes out.
  const finishFlush = zlib.constants.Z_SYNC_FLUSH ?? 2
  const attempt = (length: number, slack: number): Uint8Array | Error => {
    const most = target.length + slack
    try {
      return zlib.inflateRawSync(input.subarray(0, length), {
        finishFlush,
        chunkSize: most + CHUNK_MARGIN,
        maxOutputLength: most,
      })
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    }
  }
  const whole = attempt(input.length, 0)
  if (!(whole instanceof Error)) {
    if (whole.length < target.length) throw shortData('deflate-raw', whole.length, target.length)
    target.set(whole)
    return
  }
  // The stream goes on or is damaged, behind the wanted bytes or before: look for a start of it that gives them and
  // at least one more. zlib takes damage ahead of any further byte for damage of the unit; so do the other codecs.
  let low = 1
  let high = input.length
  while (low <= high) {
    const middle = Math.floor((low + high) / 2)
    const output = attempt(middle, PREFIX_SLACK)
    if (output instanceof Error) {
      high = middle - 1
    } else if (output.length <= target.length) {
      low = middle + 1
    } else {
      target.set(output.subarray(0, target.length))
      return
    }
  }
  throw corruptData('deflate-raw', messageOf(whole), whole)
}

/** A DEFLATE codec of Node's public one-shot calls: the slower but certain way. */
export function nodeDeflateCodec(zlib: NodeZlib, name: DeflateName): Codec {
  return defineCodec(name, {
    decode: (input, target) => inflateOnce(zlib, name, input, target),
    encode: (input, settings) => deflateOnce(zlib, name, input, settings),
  })
}
