import { Zstd } from '@hpcc-js/wasm-zstd'
import * as pako from 'pako'
import type { Codec } from '../src/codecs/codec.js'
import { handleDeflateCodec } from '../src/codecs/deflate-handle.js'
import { type DeflateName, nodeDeflateCodec } from '../src/codecs/deflate-node.js'
import { pakoDeflateCodec } from '../src/codecs/deflate-pako.js'
import { nodeZlib } from '../src/codecs/node-zlib.js'
import { nodeZstdCodec } from '../src/codecs/zstd-node.js'
import { directWasmZstdCodec, publicWasmZstdCodec } from '../src/codecs/zstd-wasm.js'

const zlib = nodeZlib()
if (!zlib) throw new Error('the tests run in Node')

/** Every way there is to do one codec here, by what it uses. */
export type Implementations = readonly (readonly [string, Codec])[]

function present(list: readonly (readonly [string, Codec | undefined])[]): Implementations {
  return list.filter((entry): entry is readonly [string, Codec] => entry[1] !== undefined)
}

export function deflateImplementations(name: DeflateName): Implementations {
  return present([
    ['zlib handle', handleDeflateCodec(zlib!, name)],
    ['zlib calls', nodeDeflateCodec(zlib!, name)],
    ['pako', pakoDeflateCodec(pako, name)],
  ])
}

const wasm = await Zstd.load()

export const nativeZstd: Codec | undefined = nodeZstdCodec(zlib)

export const zstdImplementations: Implementations = present([
  ['native zstd', nativeZstd],
  ['wasm', directWasmZstdCodec(wasm)],
  ['wasm public calls', publicWasmZstdCodec(wasm)],
])

/** `length` bytes that repeat in part: 0 to `length` of them random, the rest from `alphabet` letters. */
export function sampleBytes(length: number, seed: number, alphabet = 24): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const letter = (state >>> 24) % alphabet
    bytes[i] = (i >>> 10) % 3 === 0 ? state >>> 24 : letter + (i % 7 === 0 ? i >>> 12 : 0)
  }
  return bytes
}

/** `bytes` followed by `count` bytes of `value`. */
export function padded(bytes: Uint8Array, count: number, value = 0): Uint8Array {
  const result = new Uint8Array(bytes.length + count).fill(value, bytes.length)
  result.set(bytes)
  return result
}
