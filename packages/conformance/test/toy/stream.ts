import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  divideUp,
  type ForwardSink,
  ImageError,
  type IoOptions,
  type Measurement,
  type MeasureSpec,
  memoryStorage,
  type StreamPiece,
  type StreamReader,
  type StreamSource,
} from '@img/core'
import { type Entry, header, headerBytes, nothing, readToy, serialiseRoot } from './file.js'
import { firstCluster } from './image.js'
import { newRoot } from './writer.js'

/** Writes a toy image in one pass: header, metadata, clusters. */
export async function streamToy(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  { signal }: CreateContext,
): Promise<void> {
  if (spec.compress === true) throw new ImageError('IMG_UNSUPPORTED', 'toy streams are not compressed')
  if (spec.options.data_file !== undefined)
    throw new ImageError('IMG_UNSUPPORTED', 'toy streams are one file')
  const root = newRoot({ ...spec, size: source.size })
  const { clusterSize } = root
  root.entries = Array.from({ length: divideUp(source.size, clusterSize) }, () => nothing)
  const rootOffset = firstCluster(clusterSize)
  const rootLength = serialiseRoot(root).length
  let next = alignUp(rootOffset + rootLength, clusterSize)
  const head = new Uint8Array(next)
  for await (const { offset, length } of source.dataRanges(clusterSize)) {
    for (let at = offset; at < offset + length; at += clusterSize, next += clusterSize) {
      root.entries[at / clusterSize] = { kind: 'data', host: next, packed: 0 }
    }
  }
  head.set(header(root, rootOffset, rootLength))
  head.set(serialiseRoot(root), rootOffset)
  signal?.throwIfAborted()
  await sink.write(head)
  for await (const { offset, length } of source.dataRanges(clusterSize)) {
    for (let at = offset; at < offset + length; at += clusterSize) {
      const cluster = new Uint8Array(clusterSize)
      await source.read(at, cluster.subarray(0, Math.min(clusterSize, source.size - at)), { signal })
      signal?.throwIfAborted()
      await sink.write(cluster)
    }
  }
}

/** Reads a toy image whose metadata stands before its data, as `streamToy` writes it. */
export async function readToyStream(
  input: AsyncIterable<Uint8Array>,
  options: IoOptions & { label: string },
): Promise<StreamReader> {
  const bytes = new Forward(input, options)
  const head = await bytes.take(headerBytes)
  const view = new DataView(head.buffer, head.byteOffset)
  const end = view.getUint32(28) + view.getUint32(32)
  if (view.getUint32(24) !== 0 || end > 64 * 1024 * 1024)
    throw new ImageError('IMG_UNSUPPORTED', 'far metadata')
  const rest = await bytes.take(Math.max(0, end - headerBytes))
  const whole = new Uint8Array(Math.max(end, headerBytes))
  whole.set(head)
  whole.set(rest, headerBytes)
  const { root } = await readToy(memoryStorage(whole, { label: options.label }), options)
  if (root.names.data !== '' || root.names.backing !== '') {
    throw new ImageError('IMG_UNSUPPORTED', 'an image of several files cannot be read from a pipe')
  }
  return {
    size: root.size,
    finalSize: () => root.size,
    pieces: () => pieces(bytes, root.entries, root.clusterSize, root.size),
  }
}

async function* pieces(
  bytes: Forward,
  entries: readonly Entry[],
  clusterSize: number,
  size: number,
): AsyncGenerator<StreamPiece> {
  for (const [index, { kind, host }] of entries.entries()) {
    if (kind === 'compressed') throw new ImageError('IMG_UNSUPPORTED', 'toy streams are not compressed')
    if (kind !== 'data') continue
    if (host < bytes.position) throw new ImageError('IMG_UNSUPPORTED', 'the clusters are not in order')
    await bytes.skip(host - bytes.position)
    const offset = index * clusterSize
    const cluster = await bytes.take(clusterSize)
    yield { offset, bytes: cluster.subarray(0, Math.min(clusterSize, size - offset)) }
  }
  await bytes.drain()
}

/** Takes bytes off the front of a pipe. */
class Forward {
  position = 0
  readonly #input: AsyncIterator<Uint8Array>
  readonly #options: IoOptions & { label: string }
  #rest: Uint8Array = new Uint8Array(0)

  constructor(input: AsyncIterable<Uint8Array>, options: IoOptions & { label: string }) {
    this.#input = input[Symbol.asyncIterator]()
    this.#options = options
  }

  async take(length: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    await this.#each(length, (part) => parts.push(part))
    const bytes = new Uint8Array(length)
    let at = 0
    for (const part of parts) {
      bytes.set(part, at)
      at += part.length
    }
    return bytes
  }

  skip(length: number): Promise<void> {
    return this.#each(length, () => undefined)
  }

  async drain(): Promise<void> {
    while ((await this.#input.next()).done !== true) this.#options.signal?.throwIfAborted()
  }

  async #each(length: number, use: (part: Uint8Array) => void): Promise<void> {
    for (let left = length; left > 0; ) {
      if (this.#rest.length === 0) {
        this.#options.signal?.throwIfAborted()
        const next = await this.#input.next()
        if (next.done === true) {
          throw new ImageError('IMG_TRUNCATED', `${this.#options.label} ends after ${this.position} bytes`)
        }
        this.#rest = next.value
      }
      const part = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(part.length)
      this.position += part.length
      left -= part.length
      use(part)
    }
  }
}

/** Header, clusters of data, metadata. */
export async function measureToy(spec: MeasureSpec): Promise<Measurement> {
  const root = newRoot(spec)
  const { clusterSize } = root
  root.entries = Array.from({ length: divideUp(spec.size, clusterSize) }, () => nothing)
  const around = firstCluster(clusterSize) + serialiseRoot(root).length
  let used = 0
  if (spec.dataRanges) {
    for await (const { length } of spec.dataRanges(clusterSize)) used += divideUp(length, clusterSize)
  }
  const all = root.entries.length
  const required = around + (spec.options.reserve === true ? all : used) * clusterSize
  return { required, fullyAllocated: around + all * clusterSize }
}
