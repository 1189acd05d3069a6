import type { MaybePromise } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { Codec, CodecName } from './codec.js'
import { handleDeflateCodec } from './deflate-handle.js'
import { nodeDeflateCodec } from './deflate-node.js'
import { nodeZlib } from './node-zlib.js'
import { nodeZstdCodec } from './zstd-node.js'

export type { Codec, CodecName, CompressOptions } from './codec.js'

const NAMES: readonly CodecName[] = ['deflate-raw', 'zlib', 'zstd']

const ready = new Map<CodecName, Codec>()
const loading = new Map<CodecName, Promise<Codec>>()

function nativeCodec(name: CodecName): Codec | undefined {
  const zlib = nodeZlib()
  if (!zlib) return undefined
  if (name === 'zstd') return nodeZstdCodec(zlib)
  return handleDeflateCodec(zlib, name) ?? nodeDeflateCodec(zlib, name)
}

async function importCodec(name: CodecName): Promise<Codec> {
  if (name === 'zstd') {
    const [{ Zstd }, { wasmZstdCodec }] = await Promise.all([
      import('@hpcc-js/wasm-zstd'),
      import('./zstd-wasm.js'),
    ])
    return wasmZstdCodec(await Zstd.load())
  }
  const [pako, { pakoDeflateCodec }] = await Promise.all([import('pako'), import('./deflate-pako.js')])
  return pakoDeflateCodec(pako, name)
}

/**
 * The codec of that name if it is loaded already, or can be had without waiting: in Node DEFLATE always, zstd from
 * 22.15. Otherwise undefined, and {@link loadCodec} has it.
 *
 * @throws TypeError for a name that is none
 */
export function codecIfReady(name: CodecName): Codec | undefined {
  if (!NAMES.includes(name)) throw new TypeError(`no such codec: ${String(name)}`)
  let codec = ready.get(name)
  if (codec === undefined) {
    codec = nativeCodec(name)
    if (codec) ready.set(name, codec)
  }
  return codec
}

/**
 * Loads a codec, importing its implementation if need be; its calls are then synchronous. One codec serves a whole
 * thread.
 *
 * @throws TypeError for a name that is none
 * @throws ImageError `IMG_UNSUPPORTED` (as a rejection) if the implementation cannot be loaded here
 */
export function loadCodec(name: CodecName): MaybePromise<Codec> {
  const codec = codecIfReady(name)
  if (codec) return codec
  let promise = loading.get(name)
  if (!promise) {
    promise = importCodec(name)
      .then(
        (loaded) => {
          ready.set(name, loaded)
          return loaded
        },
        (cause: unknown) => {
          throw new ImageError('IMG_UNSUPPORTED', `The ${name} codec could not be loaded: ${String(cause)}`, {
            cause,
            hint:
              name === 'zstd'
                ? "it is WebAssembly: a page's Content-Security-Policy must allow 'wasm-unsafe-eval'"
                : 'the bundle lacks the package pako',
          })
        },
      )
      .finally(() => loading.delete(name))
    loading.set(name, promise)
  }
  return promise
}
