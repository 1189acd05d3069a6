/**
 * One zlib stream of Node, used again and again: a context costs up to a third of the work on a cluster. There is no
 * public call for it, so this drives the binding that Node's own one-shot calls drive (`lib/zlib.js`,
 * `processChunkSync`). Whoever uses it checks first that the binding is as expected: see deflate-handle.ts.
 */

// flush, input, input offset, input length, output, output offset, output length
type WriteSync = (
  flush: number,
  input: Uint8Array,
  inputOffset: number,
  inputLength: number,
  output: Uint8Array,
  outputOffset: number,
  outputLength: number,
) => void

interface Binding {
  writeSync: WriteSync
  onerror: (message: unknown, errno: unknown, code: unknown) => void
}

interface StreamObject {
  readonly _handle: Binding
  /** Bytes left in the output and in the input after a call. */
  readonly _writeState: Uint32Array
  reset(): void
  close(): void
}

/** An error that zlib reported about the data; the stream stays usable. */
export class ZlibFault extends Error {
  override readonly name = 'ZlibFault'
}

function isStreamObject(value: unknown): value is StreamObject {
  if (typeof value !== 'object' || value === null) return false
  const stream = value as Partial<StreamObject>
  return (
    typeof stream._handle?.writeSync === 'function' &&
    typeof stream._handle.onerror === 'function' &&
    stream._writeState instanceof Uint32Array &&
    stream._writeState.length >= 2 &&
    typeof stream.reset === 'function' &&
    typeof stream.close === 'function'
  )
}

const Z_FINISH = 4

/** A zlib stream that {@link run} resets and uses for one unit of data. */
export class ZlibHandle {
  readonly #stream: StreamObject
  #fault: string | undefined
  #busy = false

  /**
   * @param stream what one of the `create` functions of `node:zlib` returned
   * @throws TypeError if it is not built as expected
   */
  constructor(stream: unknown) {
    if (!isStreamObject(stream)) throw new TypeError('unexpected zlib stream object')
    this.#stream = stream
    stream._handle.onerror = (message) => {
      this.#fault = String(message)
    }
  }

  /**
   * Processes all of `input` as one whole stream into `output`. For inflating, an output that gets full is not an
   * error, an input that ends before both the stream and the output is.
   *
   * @returns bytes written to `output`; undefined, with nothing done, if called from within another run: some hosts run
   *   waiting tasks when zlib reports an error, and the binding aborts the process if it is entered twice
   * @throws ZlibFault what zlib says about damaged data
   */
  run(input: Uint8Array, output: Uint8Array): number | undefined {
    if (this.#busy) return undefined
    const { _handle: binding, _writeState: state } = this.#stream
    this.#fault = undefined
    this.#busy = true
    try {
      this.#stream.reset()
      binding.writeSync(Z_FINISH, input, 0, input.length, output, 0, output.length)
    } finally {
      this.#busy = false
    }
    if (this.#fault !== undefined) throw new ZlibFault(this.#fault)
    return output.length - state[0]!
  }

  /** Frees zlib's memory. */
  close(): void {
    this.#stream.close()
  }
}
