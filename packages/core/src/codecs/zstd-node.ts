import type { Codec } from './codec.js'
import { corruptData, defineCodec, longData } from './define-codec.js'
import type { NodeZlib } from './node-zlib.js'
import { decodeZstdFrames } from './zstd-frame.js'

/** Most bytes that zstd makes of `length` bytes, rounded up: ZSTD_compressBound of zstd.h. */
function zstdBound(length: number): number {
  return length + Math.ceil(length / 256) + 1024
}

/** Node's own zstd. Undefined before Node 22.15 and 23.8, and in its imitations that lack it. */
export function nodeZstdCodec(zlib: NodeZlib): Codec | undefined {
  const { zstdCompressSync, zstdDecompressSync } = zlib
  const levelParameter = zlib.constants.ZSTD_c_compressionLevel
  if (!zstdCompressSync || !zstdDecompressSync || levelParameter === undefined) return undefined

  function decodeFrame(frame: Uint8Array, room: Uint8Array): number {
    let output: Uint8Array
    try {
      // A chunk a little larger than the output lets Node do with a single one.
      output = zstdDecompressSync!(frame, { chunkSize: room.length + 64, maxOutputLength: room.length })
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') throw longData('zstd', room.length)
      throw corruptData('zstd', error instanceof Error ? error.message : String(error), error)
    }
    room.set(output)
    return output.length
  }

  return defineCodec('zstd', {
    decode: (input, target) => decodeZstdFrames(input, target, decodeFrame),
    encode: (input, { level }) =>
      new Uint8Array(
        zstdCompressSync(input, { params: { [levelParameter]: level }, chunkSize: zstdBound(input.length) }),
      ),
  })
}
