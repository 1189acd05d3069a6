import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Format } from '../src/format.js'
import { convertStream } from '../src/jobs/convert.js'
import { createWriter } from '../src/jobs/create.js'
import type { Progress } from '../src/jobs/types.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import type { StreamPiece, StreamReader } from '../src/streaming.js'
import { expectCode } from './storage-contract.js'
import { checkProgress } from './support/convert.js'
import { flat, join, later, pattern, readAll } from './support/disks.js'
import { expectBytes, extentsOf } from './support/extents.js'
import { toy } from './toy-format.js'

const registry = createRegistry([toy, flat])

function readerOf(pieces: readonly StreamPiece[], size: number, known = false): StreamReader {
  return { ...(known && { size }), pieces: () => later(pieces), finalSize: () => size }
}

interface How {
  readonly format?: Format
  readonly cluster?: string
  readonly packed?: boolean
  readonly sparse?: number | undefined
  readonly known?: boolean
  readonly base?: Uint8Array
}

async function streamed(
  pieces: readonly StreamPiece[],
  size: number,
  how: How = {},
): Promise<{ file: MemoryStorage; content: Uint8Array }> {
  const { format = toy, cluster = '4k', packed = false, sparse, known = false, base } = how
  const file = memoryStorage()
  const progress: Progress[] = []
  const writer = await createWriter(format, file, {
    size: known ? size : undefined,
    options:
      format === toy
        ? { cluster_size: cluster, ...(base && { backing_file: 'base', backing_fmt: 'raw' }) }
        : {},
    compress: packed,
  })
  await convertStream(readerOf(pieces, size, known), writer, {
    sparse,
    onProgress: (now) => void progress.push(now),
  })
  if (known) checkProgress(progress, size, 'copy')
  expect(progress.at(-1)).toEqual({ done: size, total: size, unit: 'bytes', phase: 'copy' })
  const references = referencesFrom({ base: memoryStorage(base) })
  return { file, content: await readAll(await openImage(file, { registry, format, references })) }
}

describe('convertStream', () => {
  const arrival = fc.array(
    fc.record({
      gap: fc.constantFrom(0, 0, 0, 1, 511, 4096, 70_000, 1_100_000),
      length: fc.oneof(fc.nat(3000), fc.constantFrom(0, 4096, 65536, 600_000)),
      zero: fc.boolean(),
    }),
    { maxLength: 7 },
  )

  it('puts pieces of odd sizes with gaps together, in any cluster size', async () => {
    const how = fc.record({
      format: fc.constantFrom(0, 1),
      cluster: fc.constantFrom('512', '4k', '1M', '2M'),
      packed: fc.boolean(),
      sparse: fc.constantFrom(0, 4096, undefined),
      known: fc.boolean(),
      based: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(
        arrival,
        fc.nat(5000),
        how,
        async (parts, more, { format, packed, based, ...rest }) => {
          let size = 0
          const pieces = parts.map(({ gap, length, zero }, seed) => {
            const offset = size + gap
            size = offset + length
            return { offset, bytes: zero ? new Uint8Array(length) : pattern(length, seed) }
          })
          size += more
          const model = new Uint8Array(size)
          for (const { offset, bytes } of pieces) model.set(bytes, offset)
          const { content } = await streamed(pieces, size, {
            ...rest,
            format: format === 0 ? flat : toy,
            packed: packed && format === 1,
            ...(based && format === 1 && { base: pattern(size, 7) }),
          })
          expectBytes(content, model)
        },
      ),
      { numRuns: 100 },
    )
  })

  it('leaves gaps and zeros out, or writes them where they are to be kept, whatever the cluster size', async () => {
    const pieces = [{ offset: 5_000_000, bytes: pattern(4096) }]
    for (const cluster of ['4k', '2M']) {
      const { file } = await streamed(pieces, 9_000_000, { cluster })
      expect(file.size).toBeLessThan(4_300_000)
      const thick = await streamed(pieces, 9_000_000, { cluster, sparse: 0 })
      expect(thick.file.size).toBeGreaterThan(9_000_000)
    }
  })

  it('hides a backing file behind the gaps', async () => {
    const pieces = [{ offset: 8192, bytes: pattern(4096) }]
    const { file, content } = await streamed(pieces, 600_000, { base: pattern(700_000, 5) })
    expectBytes(content, join(new Uint8Array(8192), pattern(4096), new Uint8Array(600_000 - 12_288)))
    expect(file.size).toBeLessThan(20_000)
  })

  it('makes an empty image of an empty stream', async () => {
    const { content } = await streamed([], 0)
    expect(content.length).toBe(0)
    expectBytes((await streamed([], 5000)).content, new Uint8Array(5000))
  })

  it('refuses a stream that goes backwards, and one that ends before its data', async () => {
    const back = [
      { offset: 100, bytes: pattern(50) },
      { offset: 149, bytes: pattern(1) },
    ]
    await expectCode(() => streamed(back, 1000), 'IMG_CORRUPT')
    await expectCode(() => streamed([{ offset: 0, bytes: pattern(100) }], 99), 'IMG_CORRUPT')
  })

  it('passes on what goes wrong in the stream, ends it, and finishes nothing', async () => {
    const broken = new Error('the pipe broke')
    async function* failing(): AsyncGenerator<StreamPiece> {
      yield { offset: 0, bytes: pattern(600_000) }
      throw broken
    }
    const writer = {
      ...(await createWriter(toy, memoryStorage(), { size: undefined })),
      finish: () => expect.unreachable(),
    }
    await expect(convertStream({ pieces: failing, finalSize: () => 600_000 }, writer)).rejects.toBe(broken)
    let ended = false
    async function* endless(): AsyncGenerator<StreamPiece> {
      try {
        for (let offset = 0; ; offset += 400_000) yield { offset, bytes: pattern(400_000) }
      } finally {
        ended = true
      }
    }
    const full = { ...writer, place: () => Promise.reject(broken) }
    await expect(convertStream({ pieces: endless, finalSize: () => 0 }, full)).rejects.toBe(broken)
    expect(ended).toBe(true)
  })

  it('refuses a sparse size that is no multiple of 512', async () => {
    const writer = await createWriter(toy, memoryStorage(), { size: undefined })
    await expect(convertStream(readerOf([], 0), writer, { sparse: 100 })).rejects.toThrow(RangeError)
  })

  it('keeps the extents of what came', async () => {
    const file = memoryStorage()
    const writer = await createWriter(toy, file, { size: undefined })
    await convertStream(readerOf([{ offset: 8192, bytes: pattern(8192) }], 40_000), writer)
    const disk = await openImage(file, { format: toy })
    expect((await extentsOf(disk)).map(({ kind, offset, length }) => [kind, offset, length])).toEqual([
      ['unallocated', 0, 8192],
      ['data', 8192, 8192],
      ['unallocated', 16_384, 23_616],
    ])
  })
})
