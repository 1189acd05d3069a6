import { isPromise } from '../bytes.js'
import { loadCodec } from '../codecs/index.js'
import type { Compress, CompressionSpec } from '../image-writer.js'

/** Compresses in this thread. */
export const compressHere: Compress = (bytes: Uint8Array, spec: CompressionSpec) => {
  const codec = loadCodec(spec.codec)
  return isPromise(codec) ? codec.then((ready) => ready.compress(bytes, spec)) : codec.compress(bytes, spec)
}
