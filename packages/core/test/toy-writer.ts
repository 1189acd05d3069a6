import { alignUp, divideUp } from '../src/bytes.js'
import type {
  CreateContext,
  CreateSpec,
  ImageWriter,
  Measurement,
  MeasureSpec,
  Placement,
} from '../src/image-writer.js'
import type { EnumOption, OptionsOf, SizeOption, StringOption } from '../src/index.js'
import type { ForwardSink, WritableStorage } from '../src/storage.js'
import type { StreamSource } from '../src/streaming.js'
import { type ToyEntry, type ToyHeader, toyFile, unallocated } from './toy-file.js'

/** How a toy image is made. */
export const toyCreateOptions: {
  readonly cluster_size: SizeOption & { default: number }
  readonly codec: EnumOption<'zlib' | 'deflate-raw'> & { default: 'zlib' }
  readonly backing_file: StringOption
  readonly backing_fmt: StringOption
} = {
  cluster_size: { kind: 'size', help: 'Cluster size', default: 4096, min: 512, powerOfTwo: true },
  codec: { kind: 'oneOf', help: 'Compression', values: ['zlib', 'deflate-raw'], default: 'zlib' },
  backing_file: { kind: 'string', help: 'Backing file' },
  backing_fmt: { kind: 'string', help: 'Format of the backing file' },
}

function headerOf(spec: CreateSpec): ToyHeader {
  const options = spec.options as OptionsOf<typeof toyCreateOptions>
  return {
    clusterSize: options.cluster_size,
    size: spec.size ?? 0,
    tableOffset: toyFile.headerBytes,
    capacity: 0,
    codec: options.codec,
    backing: options.backing_file,
    backingFormat: options.backing_fmt,
  }
}

/** Starts a toy image. It throws TypeError where the rules of ImageWriter are broken. */
export async function toyWriter(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const header = headerOf(spec)
  const { clusterSize } = header
  const entries: ToyEntry[] = []
  let next = alignUp(toyFile.headerBytes, clusterSize)
  let end = 0
  let finished = false
  const take = (offset: number, length: number): number => {
    if (finished) throw new TypeError('the image is finished')
    if (offset < end) throw new TypeError(`${offset} is before ${end}, where the last range ended`)
    if (offset % clusterSize !== 0) throw new TypeError(`${offset} is not the start of a cluster`)
    if (length <= 0) throw new TypeError(`a range of ${length} bytes`)
    if (spec.size !== undefined && offset + length > spec.size)
      throw new TypeError('the range ends past the size')
    end = offset + length
    return offset / clusterSize
  }
  const set = (index: number, entry: ToyEntry): void => {
    while (entries.length < index) entries.push(unallocated)
    entries[index] = entry
  }
  return {
    clusterSize,
    ...(spec.compress === true && { compression: { codec: header.codec, level: 1 } }),
    place(offset: number, length: number): Placement | Promise<Placement> {
      // Two clusters at once, so that the caller must come again.
      const part = Math.min(length, 2 * clusterSize)
      const first = take(offset, part)
      next = alignUp(next, clusterSize)
      const hostOffset = next
      for (let i = 0; i < divideUp(part, clusterSize); i++, next += clusterSize)
        set(first + i, { kind: 'data', hostOffset: next, packed: 0 })
      const placed = { storage: target, hostOffset, length: part }
      return first % 2 === 0 ? placed : Promise.resolve(placed)
    },
    placeCompressed(offset: number, hostLength: number): Placement {
      const length = Math.min(clusterSize, (spec.size ?? Number.MAX_SAFE_INTEGER) - offset)
      set(take(offset, length), { kind: 'compressed', hostOffset: next, packed: hostLength })
      const hostOffset = next
      next += hostLength
      return { storage: target, hostOffset, length }
    },
    ...(header.backing !== undefined && {
      zero(offset: number, length: number): void {
        const first = take(offset, length)
        for (let i = 0; i < divideUp(length, clusterSize); i++)
          set(first + i, { kind: 'zero', hostOffset: 0, packed: 0 })
      },
    }),
    async finish({ size = spec.size, signal } = {}) {
      if (size === undefined) throw new TypeError('no size was given')
      finished = true
      header.size = size
      header.capacity = divideUp(size, clusterSize)
      header.tableOffset = alignUp(next, clusterSize)
      while (entries.length < header.capacity) entries.push(unallocated)
      context.signal?.throwIfAborted()
      await target.truncate(header.tableOffset, { signal })
      await toyFile.writeEntries(target, header, 0, entries)
      await target.write(0, toyFile.header(header), { signal })
    },
  }
}

/** Writes a toy image in one pass: header, table, clusters. */
export async function toyStream(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const header = headerOf(spec)
  const { clusterSize } = header
  header.capacity = divideUp(source.size, clusterSize)
  const start = alignUp(toyFile.headerBytes + header.capacity * toyFile.entryBytes, clusterSize)
  const entries = Array.from({ length: header.capacity }, () => unallocated)
  let next = start
  for await (const { offset, length } of source.dataRanges(clusterSize)) {
    for (let at = offset; at < offset + length; at += clusterSize, next += clusterSize)
      entries[at / clusterSize] = { kind: 'data', hostOffset: next, packed: 0 }
  }
  const head = new Uint8Array(start)
  head.set(toyFile.header(header))
  head.set(toyFile.entries(entries), header.tableOffset)
  await sink.write(head)
  for await (const { offset, length } of source.dataRanges(clusterSize)) {
    for (let at = offset; at < offset + length; at += clusterSize) {
      const cluster = new Uint8Array(clusterSize)
      const visible = Math.min(clusterSize, source.size - at)
      await source.read(at, cluster.subarray(0, visible), { signal: context.signal })
      await sink.write(cluster)
    }
  }
}

/** Header, table and clusters of data. */
export async function toyMeasure(spec: MeasureSpec): Promise<Measurement> {
  const { clusterSize } = headerOf({ ...spec })
  const clusters = divideUp(spec.size, clusterSize)
  const start = alignUp(toyFile.headerBytes + clusters * toyFile.entryBytes, clusterSize)
  let used = 0
  if (spec.dataRanges) {
    for await (const { length } of spec.dataRanges(clusterSize)) used += divideUp(length, clusterSize)
  }
  return { required: start + used * clusterSize, fullyAllocated: start + clusters * clusterSize }
}
