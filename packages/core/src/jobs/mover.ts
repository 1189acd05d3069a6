import { isPromise, type MaybePromise } from '../bytes.js'
import { ImageError } from '../errors.js'
import type { Compress, ImageWriter } from '../image-writer.js'
import type { IoOptions, WritableStorage } from '../storage.js'
import { zeroRun } from '../zero.js'
import { type Batch, batches, batchLength } from './batches.js'
import type { Allocate, Mover } from './types.js'

/** Step of the zero scan where the target has no clusters. */
export const scanStep = 4096

/** A piece of a batch, ready to be placed. `bytes` absent: zeros. `compressed`: they are one compressed cluster. */
export interface Piece {
  readonly offset: number
  readonly length: number
  readonly bytes?: Uint8Array | undefined
  readonly compressed?: boolean | undefined
}

/**
 * Splits bytes into runs of data and runs of zeros that are to be left out: every whole cluster of zeros, or, where the
 * target has no clusters, runs of at least `sparse` bytes. 0: nothing is left out.
 */
export function splitZeros(bytes: Uint8Array, offset: number, unit: number, sparse: number): Piece[] {
  if (sparse === 0) return [{ offset, length: bytes.length, bytes }]
  const step = unit > 1 ? unit : scanStep
  const pieces: Piece[] = []
  let dataStart = 0
  for (let at = 0; at < bytes.length; ) {
    const run = zeroRun(bytes, at, bytes.length, step)
    const next = at + run.length
    if (run.zero && (run.length >= sparse || unit > 1)) {
      if (at > dataStart)
        pieces.push({
          offset: offset + dataStart,
          length: at - dataStart,
          bytes: bytes.subarray(dataStart, at),
        })
      pieces.push({ offset: offset + at, length: run.length })
      dataStart = next
    }
    at = next
  }
  if (dataStart < bytes.length) {
    pieces.push({
      offset: offset + dataStart,
      length: bytes.length - dataStart,
      bytes: bytes.subarray(dataStart),
    })
  }
  return pieces
}

/** Writes at once, or returns false. */
export type Put = (storage: WritableStorage, offset: number, bytes: Uint8Array) => boolean

function putNow(storage: WritableStorage, offset: number, bytes: Uint8Array): boolean {
  return storage.writeSync?.(offset, bytes) === true
}

/** Zeros inside of a cluster, in bytes, that are worth leaving out: it is larger than that then. */
const holeStep = 65536

/**
 * The parts of a cluster, or of several, that have to be written to room that reads as zeros: all but runs of at least
 * `sparse` zeros. 0: all.
 */
function* partsToWrite(bytes: Uint8Array, clusterSize: number, sparse: number): Generator<[number, number]> {
  if (sparse === 0 || clusterSize <= holeStep) return yield [0, bytes.length]
  const step = Math.max(holeStep, sparse)
  for (let at = 0; at < bytes.length; ) {
    const { zero, length } = zeroRun(bytes, at, bytes.length, step)
    if (!zero) yield [at, at + length]
    at += length
  }
}

/**
 * Writes pieces where the writer places them. Pieces must come in ascending order. `put` may write in another way; what
 * it does not take is awaited. `sparse`: runs of so many zeros are not written where the room reads as zeros; 0: all is.
 */
export async function emit(
  writer: ImageWriter,
  piece: Piece,
  options: IoOptions,
  put: Put = putNow,
  sparse = 0,
): Promise<void> {
  const { offset, length, bytes } = piece
  if (bytes === undefined) {
    await writer.zero?.(offset, length)
    return
  }
  if (piece.compressed === true) {
    const room = await writer.placeCompressed?.(offset, bytes.length)
    if (room === undefined) throw new ImageError('IMG_UNSUPPORTED', 'this format cannot hold compressed data')
    await room.storage.write(room.hostOffset, bytes, options)
    return
  }
  for (let at = 0; at < length; ) {
    const placed = writer.place(offset + at, length - at)
    const room = isPromise(placed) ? await placed : placed
    const placedBytes = bytes.subarray(at, at + room.length)
    for (const [start, end] of partsToWrite(placedBytes, writer.clusterSize, room.fresh ? sparse : 0)) {
      const part = placedBytes.subarray(start, end)
      const to = room.hostOffset + start
      if (!put(room.storage, to, part)) await room.storage.write(to, part, options)
    }
    at += room.length
  }
}

/** Cuts the data pieces into clusters and compresses each; what does not shrink stays as it is. */
export async function compressPieces(
  pieces: readonly Piece[],
  writer: ImageWriter,
  compress: Compress,
): Promise<Piece[]> {
  const { clusterSize, compression } = writer
  if (compression === undefined) return [...pieces]
  const jobs: (Piece | Promise<Piece>)[] = []
  for (const piece of pieces) {
    if (piece.bytes === undefined) {
      jobs.push(piece)
      continue
    }
    for (let at = 0; at < piece.length; at += clusterSize) {
      const bytes = piece.bytes.subarray(at, at + clusterSize)
      jobs.push(
        compressCluster(piece.offset + at, bytes, clusterSize, (whole) => compress(whole, compression)),
      )
    }
  }
  return Promise.all(jobs)
}

async function compressCluster(
  offset: number,
  bytes: Uint8Array,
  clusterSize: number,
  compress: (whole: Uint8Array) => MaybePromise<Uint8Array>,
): Promise<Piece> {
  // A cluster cut by the end of the disk is compressed whole, as readers expect.
  let whole = bytes
  if (bytes.length < clusterSize) {
    whole = new Uint8Array(clusterSize)
    whole.set(bytes)
  }
  const packed = await compress(whole)
  if (packed.length < clusterSize) return { offset, length: bytes.length, bytes: packed, compressed: true }
  return { offset, length: bytes.length, bytes }
}

/** Batches read ahead of the one being written. */
const depth = 8

/** Buffers used again and again, so that a long job makes no garbage. */
class Buffers {
  readonly #free: Uint8Array[] = []
  readonly #length: number
  readonly #allocate: Allocate

  constructor(length: number, allocate: Allocate) {
    this.#length = length
    this.#allocate = allocate
  }

  take(): Uint8Array {
    return this.#free.pop() ?? this.#allocate(this.#length)
  }

  give(buffer: Uint8Array): void {
    this.#free.push(buffer)
  }
}

/**
 * The mover that works everywhere: reads ahead asynchronously, compresses, places and writes in order. `allocate` makes
 * the buffers that are read into.
 */
export function asyncMover(
  compress: Compress,
  allocate: Allocate = (length: number) => new Uint8Array(length),
): Mover {
  return async (plan) => {
    const { writer, signal } = plan
    const options = { signal }
    const buffers = new Buffers(batchLength(writer.clusterSize), allocate)
    const ahead: { batch: Batch; pieces: Promise<Piece[]>; buffer: Uint8Array | undefined }[] = []
    const prepare = async (batch: Batch, bytes: Uint8Array | undefined): Promise<Piece[]> => {
      if (bytes === undefined) return [{ offset: batch.offset, length: batch.length }]
      await plan.source.read(batch.offset, bytes, options)
      const pieces = splitZeros(bytes, batch.offset, writer.clusterSize, plan.sparse)
      return compressPieces(pieces, writer, compress)
    }
    const finishOldest = async (): Promise<void> => {
      const oldest = ahead.shift()
      if (oldest === undefined) return
      for (const piece of await oldest.pieces) {
        signal?.throwIfAborted()
        await emit(writer, piece, options, undefined, plan.sparse)
      }
      if (oldest.buffer) buffers.give(oldest.buffer)
      plan.advance(oldest.batch.length)
    }
    try {
      for await (const batch of batches(plan.extents, writer.clusterSize, plan.sparse === 0)) {
        signal?.throwIfAborted()
        const buffer = batch.extents.length === 0 ? undefined : buffers.take()
        const pieces = prepare(batch, buffer?.subarray(0, batch.length))
        pieces.catch(() => undefined)
        ahead.push({ batch, pieces, buffer })
        if (ahead.length >= depth) await finishOldest()
      }
      while (ahead.length > 0) await finishOldest()
    } finally {
      await Promise.allSettled(ahead.map(({ pieces }) => pieces))
    }
  }
}
