import { parentPort } from 'node:worker_threads'
import { type Codec, ImageError, loadCodec } from '@img/core'
import type { WorkerFailure, WorkerRequest, WorkerResponse } from './worker-messages.js'

/** The buffers of results, each once, to be handed over instead of copied. */
function buffersOf(units: readonly Uint8Array[]): ArrayBuffer[] {
  return [...new Set(units.map(({ buffer }) => buffer as ArrayBuffer))]
}

function work(codec: Codec, request: WorkerRequest): Uint8Array[] {
  if (request.kind === 'compress') return request.units.map((unit) => codec.compress(unit, request.options))
  const { lengths } = request
  const output = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  let end = 0
  return request.units.map((unit, at) => {
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
