import type { Zstd } from '@hpcc-js/wasm-zstd'
import type { Codec } from './codec.js'
import { corruptData, defineCodec } from './define-codec.js'
import { decodeZstdFrames } from './zstd-frame.js'

/**
 * The calls of zstd.h as the package binds them, on addresses in the module's memory. Results that are errors are told
 * by `isError`. The package's own calls copy the result byte by byte through a JavaScript array, ten times slower.
 */
interface Bindings {
  compress(to: number, toLength: number, from: number, length: number, level: number): number
  decompress(to: number, toLength: number, from: number, length: number): number
  compressBound(length: number): number
  isError(result: number): number
  getErrorName(result: number): string
}

interface WasmModule {
  /** Replaced whenever the memory grows: to be read anew after each call. */
  readonly HEAPU8: Uint8Array
  _malloc(length: number): number
  _free(address: number): void
}

// A working area above this is freed after use.
const KEEP_BYTES = 4 * 1024 * 1024

/** A block of the module's memory that grows and is reused. */
class WasmArea {
  readonly #module: WasmModule
  #address = 0
  #length = 0

  constructor(module: WasmModule) {
    this.#module = module
  }

  take(length: number): number {
    if (this.#address === 0 || length > this.#length) {
      this.#free()
      const address = this.#module._malloc(Math.max(length, 1))
      if (address === 0) throw new RangeError(`no memory for ${length} bytes of zstd data`)
      this.#address = address
      this.#length = length
    }
    return this.#address
  }

  done(): void {
    if (this.#length > KEEP_BYTES) this.#free()
  }

  #free(): void {
    if (this.#address !== 0) this.#module._free(this.#address)
    this.#address = 0
    this.#length = 0
  }
}

/** zstd's calls on addresses, where the package is built as expected. */
function bindingsOf(zstd: Zstd): { calls: Bindings; module: WasmModule } | undefined {
  // Not public, though plain properties: worth a look before falling back to the public calls.
  const inner = zstd as unknown as {
    readonly _zstdClass?: Partial<Bindings>
    readonly _mainModule?: { readonly _module?: Partial<WasmModule> }
  }
  const calls = inner._zstdClass
  const module = inner._mainModule?._module
  const found =
    typeof calls?.compress === 'function' &&
    typeof calls.decompress === 'function' &&
    typeof calls.compressBound === 'function' &&
    typeof calls.isError === 'function' &&
    typeof calls.getErrorName === 'function' &&
    typeof module?._malloc === 'function' &&
    typeof module._free === 'function' &&
    module.HEAPU8 instanceof Uint8Array
  return found ? { calls: calls as Bindings, module: module as WasmModule } : undefined
}

/** A codec that keeps its buffers in the module's memory. */
function directCodec({ calls, module }: { calls: Bindings; module: WasmModule }): Codec {
  const source = new WasmArea(module)
  const result = new WasmArea(module)

  function run(
    input: Uint8Array,
    outputLength: number,
    call: (to: number, from: number) => number,
    take: (output: Uint8Array) => void,
  ): number {
    const from = source.take(input.length)
    const to = result.take(outputLength)
    try {
      module.HEAPU8.set(input, from)
      const length = call(to, from)
      if (calls.isError(length)) throw new Error(calls.getErrorName(length))
      take(module.HEAPU8.subarray(to, to + length))
      return length
    } finally {
      source.done()
      result.done()
    }
  }

  function decodeFrame(frame: Uint8Array, room: Uint8Array): number {
    try {
      return run(
        frame,
        room.length,
        (to, from) => calls.decompress(to, room.length, from, frame.length),
        (output) => room.set(output),
      )
    } catch (error) {
      throw corruptData('zstd', (error as Error).message, error)
    }
  }

  return defineCodec('zstd', {
    decode: (input, target) => decodeZstdFrames(input, target, decodeFrame),
    encode(input, { level }) {
      const bound = calls.compressBound(input.length)
      let compressed = new Uint8Array(0)
      run(
        input,
        bound,
        (to, from) => calls.compress(to, bound, from, input.length, level),
        (output) => {
          compressed = output.slice()
        },
      )
      return compressed
    },
  })
}

/** The same with the package's public calls only. */
export function publicWasmZstdCodec(zstd: Zstd): Codec {
  function decodeFrame(frame: Uint8Array, room: Uint8Array): number {
    let output: Uint8Array
    try {
      // Its memory is bounded: by the frame's content size, which was checked, or without one by 20 times the input.
      output = zstd.decompress(frame)
    } catch (error) {
      throw corruptData('zstd', error instanceof Error ? error.message : String(error), error)
    }
    if (output.length > room.length) throw corruptData('zstd', `it holds more than ${room.length} bytes`)
    room.set(output)
    return output.length
  }
  return defineCodec('zstd', {
    decode: (input, target) => decodeZstdFrames(input, target, decodeFrame),
    encode: (input, { level }) => zstd.compress(input, level),
  })
}

function works(codec: Codec): boolean {
  const plain = Uint8Array.from({ length: 3000 }, (_, index) => (index * index) % 61)
  const packed = codec.compress(plain)
  const back = codec.decompress(packed, plain.length)
  return packed.length < plain.length && back.every((value, index) => value === plain[index])
}

/** The fast way; undefined where the package is built otherwise than expected, found by trying. */
export function directWasmZstdCodec(zstd: Zstd): Codec | undefined {
  const bindings = bindingsOf(zstd)
  if (!bindings) return undefined
  try {
    const codec = directCodec(bindings)
    return works(codec) ? codec : undefined
  } catch {
    return undefined
  }
}

/** zstd in WebAssembly, for browsers and for Node before 22.15. */
export function wasmZstdCodec(zstd: Zstd): Codec {
  return directWasmZstdCodec(zstd) ?? publicWasmZstdCodec(zstd)
}
