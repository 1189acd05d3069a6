import { parentPort } from 'node:worker_threads'
import { type Codec, ImageError, loadCodec } from '@img/core'
import type { WorkerFailure, WorkerRequest, WorkerResponse } from './worker-messages.js'

/** The buffers of results, each once, to be handed over instead of copied. Shared ones need not be. */
function buffersOf(units: readonly Uint8Array[]): ArrayBuffer[] {
  const buffers = new Set(units.map(({ buffer }) => buffer))
  return [...buffers].filter((buffer) => buffer instanceof ArrayBuffer)
}

function work(codec: Codec, request: WorkerRequest): Uint8Array[] {
  if (request.kind === 'decompress') return decompress(codec, request.units, request.lengths)
  const { kind, units, options } = request
  return units.map((unit) => {
    // Over the unit itself where that gets shorter: nothing is left for the garbage collectors of two threads.
    const into = kind === 'compress-shared' ? unit.subarray(0, unit.length - 1) : undefined
    return codec.compress(unit, options, into)
  })
}

function decompress(codec: Codec, units: readonly Uint8Array[], lengths: readonly number[]): Uint8Array[] {
  const output = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  let end = 0
  return units.map((unit, at) => {
    const length = lengths[at] ?? 0
    const room = output.subarray(end, end + length)
    end += length
    codec.decompress(unit, length, room)
    return room
  })
}

function failureOf(error: unknown): WorkerFailure {
  if (ImageError.is(error)) {
    const { name, message, code, format, source, offset, hint } = error
    return { name, message, code, details: { format, source, offset, hint } }
  }
  return error instanceof Error
    ? { name: error.name, message: error.message }
    : { name: 'Error', message: String(error) }
}

async function answer(request: WorkerRequest): Promise<void> {
  let response: WorkerResponse
  let buffers: ArrayBuffer[] = []
  try {
    const units = work(await loadCodec(request.codec), request)
    response = { id: request.id, units }
    buffers = buffersOf(units)
  } catch (error) {
    response = { id: request.id, failure: failureOf(error) }
  }
  parentPort?.postMessage(response, buffers)
}

// Whose it was cannot be told: the thread ends, and its jobs fail.
parentPort?.on('messageerror', (error: Error) => {
  throw error
})
parentPort?.on('message', (request: WorkerRequest) => void answer(request))
