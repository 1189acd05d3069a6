import type { Codec, CompressOptions } from './codec.js'
import { corruptData, defineCodec, longData, shortData } from './define-codec.js'
import { type DeflateName, deflateOnce, inflateOnce, MEM_LEVEL } from './deflate-node.js'
import { type NodeZlib, nodeMajor } from './node-zlib.js'
import { deflateBound, Scratch } from './scratch.js'
import { ZlibFault, ZlibHandle } from './zlib-handle.js'

// Node versions on which the test suite has run. A binding with other arguments would abort the process, which no
// test at run time can catch, so that a newer Node gets the public calls until its number is entered here.
const NODE_MAJORS = { first: 20, last: 26 }

// Compression streams kept, one for each level and window in use.
const STREAMS_KEPT = 4

class DeflateStreams {
  readonly #zlib: NodeZlib
  readonly #name: DeflateName
  readonly #streams = new Map<string, ZlibHandle>()

  constructor(zlib: NodeZlib, name: DeflateName) {
    this.#zlib = zlib
    this.#name = name
  }

  get({ level, windowBits }: Required<CompressOptions>): ZlibHandle {
    const key = `${level} ${windowBits}`
    const kept = this.#streams.get(key)
    if (kept) return kept
    for (const [oldest, stream] of this.#streams) {
      if (this.#streams.size < STREAMS_KEPT) break
      this.#streams.delete(oldest)
      stream.close()
    }
    const options = { level, windowBits, memLevel: MEM_LEVEL }
    const handle = new ZlibHandle(
      this.#name === 'zlib' ? this.#zlib.createDeflate(options) : this.#zlib.createDeflateRaw(options),
    )
    this.#streams.set(key, handle)
    return handle
  }
}

function buildCodec(zlib: NodeZlib, name: DeflateName): Codec {
  const scratch = new Scratch()
  const streams = new DeflateStreams(zlib, name)
  const inflater = new ZlibHandle(name === 'zlib' ? zlib.createInflate() : zlib.createInflateRaw())

  // Undefined where the stream is in use.
  const inflate = (input: Uint8Array, output: Uint8Array): number | undefined => {
    try {
      return inflater.run(input, output)
    } catch (error) {
      if (error instanceof ZlibFault) throw corruptData(name, error.message, error)
      throw error
    }
  }

  return defineCodec(name, {
    decode(input, target) {
      // With zlib's wrapping, the binding does not say whether the stream has ended when the output is full. With room
      // for one byte more the output is full only if the data is too long, and a missing end or checksum is reported.
      const room = name === 'zlib' ? scratch.take(target.length + 1).subarray(0, target.length + 1) : target
      const got = inflate(input, room)
      if (got === undefined) return inflateOnce(zlib, name, input, target)
      if (got < target.length) throw shortData(name, got, target.length)
      if (got > target.length) throw longData(name, target.length)
      if (room !== target) target.set(room.subarray(0, got))
    },
    encode(input, settings, place) {
      const room = scratch.take(deflateBound(input.length))
      const length = streams.get(settings).run(input, room)
      // Nothing left: the result may be incomplete.
      const complete = length !== undefined && length < room.length
      return complete ? place(room.subarray(0, length)) : deflateOnce(zlib, name, input, settings)
    },
  })
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index])
}

/** Runs every way through `codec` and compares with the public calls. */
function works(codec: Codec, zlib: NodeZlib, name: DeflateName): boolean {
  const plain = Uint8Array.from({ length: 3000 }, (_, index) => (index * index) % 61)
  const settings = { level: 6, windowBits: 12 }
  const expected = deflateOnce(zlib, name, plain, settings)
  const padded = new Uint8Array(expected.length + 100)
  padded.set(expected)
  const back = new Uint8Array(plain.length)
  for (let round = 0; round < 2; round++) {
    const packed = codec.compress(plain, settings)
    inflateOnce(zlib, name, packed, back)
    if (!sameBytes(back, plain) || !sameBytes(codec.decompress(padded, plain.length), plain)) return false
    for (const [damaged, length] of [
      [padded.fill(0xff, 2, 40), plain.length],
      [expected.subarray(0, 40), plain.length],
      [expected, plain.length + 1],
    ] as const) {
      if (accepts(codec, damaged, length)) return false
    }
    padded.set(expected)
  }
  return true
}

function accepts(codec: Codec, input: Uint8Array, length: number): boolean {
  try {
    codec.decompress(input, length)
    return true
  } catch {
    return false
  }
}

/**
 * A DEFLATE codec that keeps its zlib streams between calls. Undefined where the running Node does not behave as this
 * needs, found by trying; nodeDeflateCodec then does the same with public calls.
 */
export function handleDeflateCodec(zlib: NodeZlib, name: DeflateName): Codec | undefined {
  const major = nodeMajor()
  if (major === undefined || major < NODE_MAJORS.first || major > NODE_MAJORS.last) return undefined
  try {
    const codec = buildCodec(zlib, name)
    return works(codec, zlib, name) ? codec : undefined
  } catch {
    return undefined
  }
}
