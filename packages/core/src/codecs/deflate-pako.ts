import type { ZStream } from 'pako'
import type { Codec, CompressOptions } from './codec.js'
import { corruptData, defineCodec, longData, shortData } from './define-codec.js'
import { type DeflateName, MEM_LEVEL } from './deflate-node.js'
import { deflateBound, Scratch } from './scratch.js'

/** What this uses of pako: its port of zlib's own calls, which stop where the output is full. */
export type Pako = Pick<
  typeof import('pako'),
  | 'ZStream'
  | 'Z_BUF_ERROR'
  | 'Z_DEFAULT_STRATEGY'
  | 'Z_FINISH'
  | 'Z_OK'
  | 'Z_STREAM_END'
  | 'zlibDeflate'
  | 'zlibDeflateInit2'
  | 'zlibDeflateReset'
  | 'zlibInflate'
  | 'zlibInflateInit2'
  | 'zlibInflateReset'
>

const Z_DEFLATED = 8

/** The codec in JavaScript, for where there is no Node: about a third of zlib's speed inflating, a quarter deflating. */
export function pakoDeflateCodec(pako: Pako, name: DeflateName): Codec {
  const sign = name === 'zlib' ? 1 : -1
  const scratch = new Scratch()
  let inflater: ZStream | undefined
  let deflater: { stream: ZStream; key: string } | undefined

  function inflateStream(): ZStream {
    if (!inflater) {
      inflater = new pako.ZStream()
      pako.zlibInflateInit2(inflater, sign * 15)
    }
    pako.zlibInflateReset(inflater)
    return inflater
  }

  function deflateStream({ level, windowBits }: Required<CompressOptions>): ZStream {
    const key = `${level} ${windowBits}`
    if (deflater?.key !== key) {
      const stream = new pako.ZStream()
      pako.zlibDeflateInit2(stream, level, Z_DEFLATED, sign * windowBits, MEM_LEVEL, pako.Z_DEFAULT_STRATEGY)
      deflater = { stream, key }
    }
    pako.zlibDeflateReset(deflater.stream)
    return deflater.stream
  }

  return defineCodec(name, {
    decode(input, target) {
      const stream = inflateStream()
      setBuffers(stream, input, target)
      const status = pako.zlibInflate(stream, pako.Z_FINISH)
      const got = stream.total_out
      releaseBuffers(stream)
      if (status === pako.Z_STREAM_END) {
        if (got < target.length) throw shortData(name, got, target.length)
        return
      }
      if (status === pako.Z_BUF_ERROR && got === target.length) {
        if (name === 'deflate-raw') return
        if (stream.avail_in > 0) throw longData(name, target.length)
      }
      throw corruptData(name, stream.msg || 'unexpected end of file')
    },
    encode(input, settings) {
      const stream = deflateStream(settings)
      const room = scratch.take(deflateBound(input.length))
      setBuffers(stream, input, room)
      const status = pako.zlibDeflate(stream, pako.Z_FINISH)
      const length = stream.total_out
      releaseBuffers(stream)
      if (status !== pako.Z_STREAM_END)
        throw new Error(`pako could not compress: status ${status} ${stream.msg}`)
      return room.slice(0, length)
    },
  })
}

function setBuffers(stream: ZStream, input: Uint8Array, output: Uint8Array): void {
  stream.input = input
  stream.next_in = 0
  stream.avail_in = input.length
  stream.output = output as Uint8Array<ArrayBuffer>
  stream.next_out = 0
  stream.avail_out = output.length
  stream.msg = ''
}

const NONE = new Uint8Array(0)

// The stream is kept, the caller's buffers must not be.
function releaseBuffers(stream: ZStream): void {
  stream.input = NONE
  stream.output = NONE
}
