import { spawnSync } from 'node:child_process'
import { Zstd } from '@hpcc-js/wasm-zstd'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readZstdFrame } from '../src/codecs/zstd-frame.js'
import { directWasmZstdCodec, wasmZstdCodec } from '../src/codecs/zstd-wasm.js'
import { nativeZstd, padded, sampleBytes, zstdImplementations } from './codecs-implementations.js'

const CLUSTER = 65536
const corrupt = expect.objectContaining({ code: 'IMG_CORRUPT' })
const anyWriter = zstdImplementations[0]![1]

const units = fc.oneof(
  fc.uint8Array({ min: 0, max: 255, maxLength: 3000 }),
  fc.uint8Array({ min: 0, max: 3, maxLength: 6000 }),
  fc
    .tuple(fc.integer({ min: 0, max: 300000 }), fc.nat(), fc.integer({ min: 1, max: 256 }))
    .map(([length, seed, alphabet]) => sampleBytes(length, seed, alphabet)),
)

const zeros = (length: number) => new Uint8Array(length)
const u32 = (value: number) => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]
const MAGIC = [0x28, 0xb5, 0x2f, 0xfd]
const skippable = (length: number) => [0x5f, 0x2a, 0x4d, 0x18, ...u32(length), ...zeros(length)]
const rle = (last: boolean, length: number, byte: number) => [
  ...u32((length << 3) | 2 | (last ? 1 : 0)).slice(0, 3),
  byte,
]

/** A frame without content size and with a window of 8 MiB, of RLE blocks of 128 KiB of zeros. */
function frameOfUnknownSize(blocks: number): Uint8Array {
  const body = Array.from({ length: blocks }, (_, index) => rle(index === blocks - 1, 128 * 1024, 0)).flat()
  return Uint8Array.from([...MAGIC, 0x00, 13 << 3, ...body])
}

/** A frame that states a content size of 8 bytes' width and has one RLE block. */
function frameOfStatedSize(low: number, high: number, actual: number): Uint8Array {
  return Uint8Array.from([...MAGIC, 0xe0, ...u32(low), ...u32(high), ...rle(true, actual, 9)])
}

function zstdTool(input: Uint8Array, ...flags: string[]): Uint8Array | undefined {
  const { status, stdout } = spawnSync('zstd', ['-c', '-q', ...flags], { input, maxBuffer: 1 << 26 })
  return status === 0 ? stdout : undefined
}
const hasTool = zstdTool(zeros(1)) !== undefined

it('has native zstd where Node has it', () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const expected = major > 23 || (major === 23 && minor >= 8) || (major === 22 && minor >= 15)
  expect(nativeZstd !== undefined).toBe(expected)
})

it('uses the bindings of the WebAssembly package', () => {
  expect(zstdImplementations.map(([label]) => label)).toContain('wasm')
})

it('falls back to the public calls of a package that is built otherwise', async () => {
  const zstd = await Zstd.load()
  const other = {
    compress: (data: Uint8Array, level?: number) => zstd.compress(data, level),
    decompress: (data: Uint8Array) => zstd.decompress(data),
  } as unknown as Zstd
  expect(directWasmZstdCodec(other)).toBeUndefined()
  const zero = () => 0
  const silent = {
    ...zstd,
    _zstdClass: { compress: zero, decompress: zero, compressBound: zero, isError: zero, getErrorName: zero },
  } as unknown as Zstd
  expect(directWasmZstdCodec(silent)).toBeUndefined()
  const unit = sampleBytes(5000, 4)
  const codec = wasmZstdCodec(other)
  expect(codec.decompress(codec.compress(unit), unit.length)).toEqual(unit)
})

it('reads in each implementation what any writes', () => {
  fc.assert(
    fc.property(
      units,
      fc.integer({ min: 1, max: 19 }),
      fc.nat(600),
      fc.nat(255),
      (unit, level, count, filler) => {
        for (const [, writer] of zstdImplementations) {
          const packed = padded(writer.compress(unit, { level }), count, filler)
          for (const [, reader] of zstdImplementations) {
            expect(Buffer.compare(reader.decompress(packed, unit.length), unit)).toBe(0)
          }
        }
      },
    ),
    { numRuns: 30 },
  )
})

describe.each(zstdImplementations)('with %s', (label, codec) => {
  const unit = sampleBytes(CLUSTER, 21)
  const packed = anyWriter.compress(unit)

  it('fills the target that it is given and leaves the rest alone', () => {
    const target = new Uint8Array(CLUSTER + 200).fill(0xee)
    const result = codec.decompress(packed, CLUSTER, target.subarray(100))
    expect(result.buffer).toBe(target.buffer)
    expect(Buffer.compare(result, unit)).toBe(0)
    expect(target.subarray(0, 100).every((byte) => byte === 0xee)).toBe(true)
    expect(target.subarray(CLUSTER + 100).every((byte) => byte === 0xee)).toBe(true)
  })

  it('ignores the next frame behind a full output', () => {
    expect(Buffer.compare(codec.decompress(Buffer.concat([packed, packed]), CLUSTER), unit)).toBe(0)
  })

  it('joins frames and skips skippable ones', () => {
    const half = CLUSTER / 2
    const frames = [
      Uint8Array.from(skippable(20)),
      codec.compress(unit.subarray(0, half)),
      codec.compress(zeros(0)),
      Uint8Array.from(skippable(0)),
      codec.compress(unit.subarray(half)),
      zeros(77),
    ]
    expect(Buffer.compare(codec.decompress(Buffer.concat(frames), CLUSTER), unit)).toBe(0)
  })

  it('reads a frame without content size', () => {
    expect(
      Buffer.compare(codec.decompress(padded(frameOfUnknownSize(1), 9), 128 * 1024), zeros(128 * 1024)),
    ).toBe(0)
  })

  it('refuses frames that hold more or less than wanted, and goes on working', () => {
    expect(() => codec.decompress(packed, CLUSTER - 1)).toThrow(/holds more than 65535 bytes/)
    expect(() => codec.decompress(packed, CLUSTER + 1)).toThrow(/ends after 65536 of 65537 bytes/)
    expect(() => codec.decompress(Buffer.concat([packed, packed]), CLUSTER * 2 - 1)).toThrow(corrupt)
    expect(() => codec.decompress(padded(packed, 400), CLUSTER + 1)).toThrow(corrupt)
    expect(() => codec.decompress(frameOfUnknownSize(1), 128 * 1024 - 1)).toThrow(corrupt)
    expect(Buffer.compare(codec.decompress(packed, CLUSTER), unit)).toBe(0)
  })

  it('refuses a content size that lies', () => {
    expect(codec.decompress(frameOfStatedSize(500, 0, 500), 500)).toEqual(new Uint8Array(500).fill(9))
    expect(() => codec.decompress(frameOfStatedSize(500, 0, 600), 500)).toThrow(corrupt)
    expect(() => codec.decompress(frameOfStatedSize(500, 0, 400), 500)).toThrow(corrupt)
    expect(() => codec.decompress(frameOfStatedSize(500, 1, 500), 500)).toThrow(corrupt)
    expect(() => codec.decompress(frameOfStatedSize(0xffffffff, 0xffffffff, 500), 500)).toThrow(corrupt)
  })

  it('does not inflate bombs beyond the wanted length', () => {
    const unknown = frameOfUnknownSize(8192) // 1 GiB in 32 KiB
    const stated = anyWriter.compress(zeros(64 << 20))
    const before = process.memoryUsage()
    expect(() => codec.decompress(unknown, CLUSTER)).toThrow(corrupt)
    expect(() => codec.decompress(stated, CLUSTER)).toThrow(corrupt)
    const after = process.memoryUsage()
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(16 << 20)
    expect(after.rss - before.rss).toBeLessThan(64 << 20)
  })

  it('refuses empty, garbage and cut-off input', () => {
    expect(() => codec.decompress(zeros(0), CLUSTER)).toThrow(corrupt)
    expect(() => codec.decompress(zeros(512), CLUSTER)).toThrow(corrupt)
    expect(() => codec.decompress(sampleBytes(512, 3), CLUSTER)).toThrow(corrupt)
    for (const length of [1, 4, 7, 8, 9, 100, packed.length - 1]) {
      expect(() => codec.decompress(packed.subarray(0, length), CLUSTER)).toThrow(corrupt)
    }
    expect(codec.decompress(zeros(0), 0)).toHaveLength(0)
  })

  it('never takes damaged data for more than it is', () => {
    fc.assert(
      fc.property(fc.nat(packed.length - 1), fc.integer({ min: 1, max: 255 }), (where, flip) => {
        const damaged = new Uint8Array(packed)
        damaged[where]! ^= flip
        const target = new Uint8Array(CLUSTER + 64).fill(0xee)
        try {
          expect(codec.decompress(damaged, CLUSTER, target)).toHaveLength(CLUSTER)
        } catch (error) {
          expect(error).toMatchObject({ name: 'ImageError' })
        }
        expect(target.subarray(CLUSTER).every((byte) => byte === 0xee)).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('refuses wrong arguments', () => {
    expect(() => codec.decompress(packed, -1)).toThrow(RangeError)
    expect(() => codec.decompress(packed, CLUSTER, zeros(CLUSTER - 1))).toThrow(RangeError)
    expect(() => codec.compress(unit, { level: 0 })).toThrow(RangeError)
    expect(() => codec.compress(unit, { level: 23 })).toThrow(RangeError)
    expect(() => codec.compress(unit, { windowBits: 12 })).toThrow(RangeError)
  })

  // The package's public calls take seconds for it.
  if (label !== 'wasm public calls') {
    it('works on large units after small ones', () => {
      const large = sampleBytes(24 << 20, 5)
      expect(Buffer.compare(codec.decompress(codec.compress(large), large.length), large)).toBe(0)
      expect(Buffer.compare(codec.decompress(packed, CLUSTER), unit)).toBe(0)
    })
  }

  it.skipIf(!hasTool)('exchanges data with the zstd tool (skipped where it is not installed)', () => {
    const other = zstdTool(unit, '-7', '--check')!
    expect(Buffer.compare(codec.decompress(padded(other, 100), CLUSTER), unit)).toBe(0)
    const wrong = new Uint8Array(other)
    wrong[wrong.length - 1]! ^= 1
    expect(() => codec.decompress(wrong, CLUSTER)).toThrow(corrupt)
    expect(Buffer.compare(zstdTool(codec.compress(unit), '-d')!, unit)).toBe(0)
  })
})

describe('frame walk', () => {
  it('finds the end and the content size whatever follows', () => {
    fc.assert(
      fc.property(units, fc.nat(50), fc.nat(50), (unit, before, behind) => {
        const frame = anyWriter.compress(unit)
        const bytes = Buffer.concat([zeros(before), frame, sampleBytes(behind, 1)])
        expect(readZstdFrame(bytes, before)).toEqual({
          end: before + frame.length,
          skippable: false,
          contentSize: unit.length,
        })
      }),
      { numRuns: 40 },
    )
  })

  it('reads every width of the content size', () => {
    const end = [0x01, 0x00, 0x00]
    const sizeOf = (...bytes: number[]) =>
      readZstdFrame(Uint8Array.from([...MAGIC, ...bytes, ...end]), 0).contentSize
    expect(sizeOf(0x00, 0x58)).toBeUndefined()
    expect(sizeOf(0x20, 200)).toBe(200)
    expect(sizeOf(0x60, 1, 1)).toBe(513)
    expect(sizeOf(0xa0, ...u32(0xfffffff0))).toBe(0xfffffff0)
    expect(sizeOf(0xe0, ...u32(7), ...u32(2))).toBe(2 ** 33 + 7)
    expect(sizeOf(0x81, 0x58, 0, ...u32(9))).toBe(9)
  })

  it('refuses what the format reserves, and dictionaries', () => {
    const read = (...bytes: number[]) => readZstdFrame(Uint8Array.from([...MAGIC, ...bytes]), 0)
    expect(() => read(0x28, 1, 0x01, 0x00, 0x00)).toThrow(/reserved bit/)
    expect(() => read(0x20, 1, 0x07, 0x00, 0x00)).toThrow(/reserved type/)
    expect(() => read(0x20, 1, ...u32((131073 << 3) | 5).slice(0, 3))).toThrow(/131073 bytes/)
    expect(() => read(0x21, 5, 1, 0x01, 0x00, 0x00)).toThrow(
      expect.objectContaining({ code: 'IMG_UNSUPPORTED' }),
    )
    expect(() => readZstdFrame(Uint8Array.from(skippable(20).slice(0, 27)), 0)).toThrow(corrupt)
  })
})
