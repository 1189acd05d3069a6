import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ImageWriter, Placement } from '../src/image-writer.js'
import { compressPieces, emit, type Piece, scanStep, splitZeros } from '../src/jobs/mover.js'
import { memoryStorage } from '../src/storage/memory.js'
import { isZero } from '../src/zero.js'
import { expectCode } from './storage-contract.js'
import { join, pattern } from './support/disks.js'
import { expectBytes } from './support/extents.js'
import { hookedStorage } from './support/hooked-storage.js'

/** Bytes made of runs of zeros and others, with edges near multiples of 512. */
const content = fc
  .array(fc.tuple(fc.boolean(), fc.nat(24), fc.constantFrom(-1, 0, 0, 0, 3)), { maxLength: 8 })
  .map((runs) =>
    join(
      ...runs.map(([zero, sectors, more], i) => {
        const length = Math.max(0, sectors * 512 + more)
        return zero ? new Uint8Array(length) : pattern(length, i)
      }),
    ),
  )

describe('splitZeros', () => {
  it('cuts bytes into data and zeros, as the unit and the shortest run allow', () => {
    const unit = fc.constantFrom(1, 512, 4096)
    const sparse = fc.constantFrom(512, 4096, 8192)
    fc.assert(
      fc.property(content, unit, sparse, fc.nat(10), (bytes, unit, sparse, clusters) => {
        const offset = clusters * unit
        const step = unit > 1 ? unit : scanStep
        let at = offset
        let zeroBefore: boolean | undefined
        for (const piece of splitZeros(bytes, offset, unit, sparse)) {
          const end = piece.offset + piece.length
          const source = bytes.subarray(piece.offset - offset, end - offset)
          expect(piece.offset).toBe(at)
          expect(piece.length).toBeGreaterThan(0)
          expect((piece.offset - offset) % step).toBe(0)
          expect(piece.bytes === undefined).not.toBe(zeroBefore)
          if (piece.bytes) expectBytes(piece.bytes, source)
          else {
            expect(isZero(source)).toBe(true)
            expect(unit > 1 || piece.length >= sparse).toBe(true)
          }
          // Nothing that is to be left out is kept.
          for (let start = 0; piece.bytes && start + Math.max(step, sparse) <= source.length; start += step)
            expect(isZero(source, start, start + Math.max(step, sparse))).toBe(false)
          zeroBefore = piece.bytes === undefined
          at = end
        }
        expect(at).toBe(offset + bytes.length)
      }),
      { numRuns: 500 },
    )
  })

  it('keeps everything where zeros are to be written', () => {
    expect(splitZeros(new Uint8Array(9000), 5, 1, 0)).toEqual([
      { offset: 5, length: 9000, bytes: new Uint8Array(9000) },
    ])
    expect(splitZeros(new Uint8Array(0), 5, 1, 4096)).toEqual([])
  })

  it('copies nothing', () => {
    const bytes = pattern(8192)
    expect(splitZeros(bytes, 0, 4096, 4096)[0]?.bytes?.buffer).toBe(bytes.buffer)
  })
})

/** A writer that places pieces one after the other, `most` bytes at a time. */
function writerOf(
  most: number,
  more: Partial<ImageWriter> = {},
): { writer: ImageWriter; log: string[]; content: () => Uint8Array } {
  const log: string[] = []
  const target = memoryStorage()
  let next = 0
  const writer: ImageWriter = {
    clusterSize: 512,
    place(offset, length): Placement | Promise<Placement> {
      const part = Math.min(most, length)
      log.push(`place ${offset}+${length}`)
      const placed = { storage: target, hostOffset: next, length: part }
      next += part
      return offset % 1024 === 0 ? Promise.resolve(placed) : placed
    },
    finish: () => Promise.resolve(),
    ...more,
  }
  return { writer, log, content: () => target.bytes() }
}

describe('emit', () => {
  it('writes where the writer places, as often as it takes', async () => {
    const { writer, log, content } = writerOf(512)
    await emit(writer, { offset: 512, length: 1300, bytes: pattern(1300) }, {})
    expect(log).toEqual(['place 512+1300', 'place 1024+788', 'place 1536+276'])
    expectBytes(content(), pattern(1300))
  })

  it('writes to a storage that cannot do it at once', async () => {
    const target = memoryStorage()
    const place = (): Placement => ({ storage: hookedStorage(target), hostOffset: 3, length: 9 })
    await emit({ ...writerOf(1).writer, place }, { offset: 0, length: 9, bytes: pattern(9) }, {})
    expectBytes(target.bytes(), join(new Uint8Array(3), pattern(9)))
  })

  it('tells zeros to a writer that wants to know, and no other', async () => {
    const zeros: number[][] = []
    const { writer, log } = writerOf(512, { zero: (offset, length) => void zeros.push([offset, length]) })
    await emit(writer, { offset: 512, length: 4096 }, {})
    await emit(writerOf(1).writer, { offset: 512, length: 4096 }, {})
    expect(zeros).toEqual([[512, 4096]])
    expect(log).toEqual([])
  })

  describe('zeros inside of a large cluster', () => {
    const KiB = 1024
    const bytes = join(
      new Uint8Array(128 * KiB),
      pattern(4 * KiB),
      new Uint8Array(380 * KiB),
      pattern(512 * KiB),
    )

    /** The ranges written into room at byte 1000, as [offset, length] from there. */
    async function written(clusterSize: number, fresh: boolean, sparse?: number): Promise<number[][]> {
      const target = memoryStorage()
      const place = (): Placement => ({ storage: target, hostOffset: 1000, length: bytes.length, fresh })
      const ranges: number[][] = []
      const put = (_: unknown, offset: number, part: Uint8Array): boolean => {
        ranges.push([offset - 1000, part.length])
        return target.writeSync(offset, part)
      }
      const writer = { ...writerOf(1).writer, place, clusterSize }
      await emit(writer, { offset: 0, length: bytes.length, bytes }, {}, put, sparse)
      expectBytes(target.bytes().subarray(1000), bytes)
      return ranges
    }

    it('are not written where the room reads as zeros', async () => {
      const parts = [
        [128 * KiB, 64 * KiB],
        [512 * KiB, 512 * KiB],
      ]
      expect(await written(1024 * KiB, true, 4096)).toEqual(parts)
      const longer = [
        [0, 256 * KiB],
        [512 * KiB, 512 * KiB],
      ]
      expect(await written(1024 * KiB, true, 256 * KiB)).toEqual(longer)
    })

    it('are written where they are wanted, or the room holds something, or the clusters are small', async () => {
      const all = [[0, 1024 * KiB]]
      expect(await written(1024 * KiB, true, 0)).toEqual(all)
      expect(await written(1024 * KiB, true)).toEqual(all)
      expect(await written(1024 * KiB, false, 4096)).toEqual(all)
      expect(await written(64 * KiB, true, 4096)).toEqual(all)
    })
  })

  it('refuses compressed data to a writer that cannot place it', async () => {
    const piece: Piece = { offset: 0, length: 512, bytes: pattern(5), compressed: true }
    await expectCode(() => emit(writerOf(512).writer, piece, {}), 'IMG_UNSUPPORTED')
  })
})

describe('compressPieces', () => {
  const compression = { codec: 'zlib' } as const
  const pieces: Piece[] = [
    { offset: 0, length: 1024 },
    { offset: 1024, length: 1500, bytes: pattern(1500) },
  ]

  it('leaves pieces alone where nothing is to be compressed', async () => {
    const never = (): never => expect.unreachable()
    expect(await compressPieces(pieces, writerOf(1).writer, never)).toEqual(pieces)
  })

  it('compresses each cluster alone, in order whatever takes longer, the last one filled up', async () => {
    const lengths: number[] = []
    const { writer } = writerOf(1, { compression })
    const found = await compressPieces(pieces, writer, async (bytes, spec) => {
      expect(spec).toBe(compression)
      lengths.push(bytes.length)
      for (let turn = lengths.length; turn < 5; turn++) await new Promise((next) => setImmediate(next))
      return bytes.subarray(0, 10)
    })
    expect(lengths).toEqual([512, 512, 512])
    expect(found.map(({ offset, length, compressed }) => [offset, length, compressed])).toEqual([
      [0, 1024, undefined],
      [1024, 512, true],
      [1536, 512, true],
      [2048, 476, true],
    ])
    expectBytes(found[3]?.bytes as Uint8Array, pattern(1500).subarray(1024, 1034))
  })

  it('keeps a cluster that does not shrink as it is', async () => {
    const { writer } = writerOf(1, { compression })
    const found = await compressPieces(pieces, writer, (bytes) => join(bytes))
    expect(
      found.slice(1).map(({ length, bytes, compressed }) => [length, bytes?.length, compressed]),
    ).toEqual([
      [512, 512, undefined],
      [512, 512, undefined],
      [476, 476, undefined],
    ])
  })

  it('passes on what goes wrong, however many do', async () => {
    const { writer } = writerOf(1, { compression })
    let calls = 0
    const failing = async (): Promise<Uint8Array> => {
      throw new Error(`number ${++calls}`)
    }
    await expect(compressPieces(pieces, writer, failing)).rejects.toThrow('number 1')
    expect(calls).toBe(3)
    const atOnce = (): never => {
      throw new Error('at once')
    }
    await expect(compressPieces(pieces, writer, atOnce)).rejects.toThrow('at once')
  })
})
