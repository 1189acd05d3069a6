import {
  constants,
  createInflateRaw,
  deflateRawSync,
  deflateSync,
  inflateRawSync,
  inflateSync,
} from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { handleDeflateCodec } from '../src/codecs/deflate-handle.js'
import { nodeDeflateCodec } from '../src/codecs/deflate-node.js'
import { nodeZlib } from '../src/codecs/node-zlib.js'
import { ZlibHandle } from '../src/codecs/zlib-handle.js'
import { ImageError } from '../src/errors.js'
import { deflateImplementations, padded, sampleBytes } from './codecs-implementations.js'

const CLUSTER = 65536
const corrupt = expect.objectContaining({ code: 'IMG_CORRUPT' })

/** What the codec gives, or the code of its error. */
function outcome(run: () => Uint8Array): string {
  try {
    return Buffer.from(run()).toString('hex')
  } catch (error) {
    return ImageError.is(error) ? error.code : String(error)
  }
}

const units = fc.oneof(
  fc.uint8Array({ min: 0, max: 255, maxLength: 3000 }),
  fc.uint8Array({ min: 0, max: 3, maxLength: 6000 }),
  fc
    .tuple(fc.integer({ min: 0, max: 70000 }), fc.nat(), fc.integer({ min: 1, max: 256 }))
    .map(([length, seed, alphabet]) => sampleBytes(length, seed, alphabet)),
)

/** 64 MiB of zeros 16 times over, in about 1 MiB: a stream of 1 GiB. */
function gibibyteOfZeros(): Uint8Array {
  const part = deflateRawSync(new Uint8Array(64 << 20), { finishFlush: constants.Z_FULL_FLUSH })
  return Buffer.concat([...Array.from({ length: 16 }, () => part), deflateRawSync(new Uint8Array(0))])
}

it('uses the kept zlib stream on every Node this is tested on', () => {
  expect(deflateImplementations('deflate-raw').map(([name]) => name)).toContain('zlib handle')
  expect(deflateImplementations('zlib').map(([name]) => name)).toContain('zlib handle')
})

describe.each(['deflate-raw', 'zlib'] as const)('%s', (name) => {
  const implementations = deflateImplementations(name)

  it('reads in each implementation what any writes', () => {
    fc.assert(
      fc.property(
        units,
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 9, max: 15 }),
        fc.nat(600),
        (unit, level, windowBits, padding) => {
          for (const [, writer] of implementations) {
            const packed = padded(writer.compress(unit, { level, windowBits }), padding, 0xa5)
            for (const [, reader] of implementations) {
              expect(Buffer.compare(reader.decompress(packed, unit.length), unit)).toBe(0)
            }
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  it('gives the same bytes from a kept stream as from the one-shot calls', () => {
    const find = (wanted: string) => implementations.find(([label]) => label === wanted)![1]
    for (const windowBits of [12, 15, 9, 10, 11, 12]) {
      for (const level of [6, 1, 9]) {
        const unit = sampleBytes(CLUSTER, windowBits * level)
        const options = { level, windowBits }
        const kept = find('zlib handle').compress(unit, options)
        expect(Buffer.compare(kept, find('zlib calls').compress(unit, options))).toBe(0)
      }
    }
  })

  describe.each(implementations)('with %s', (_label, codec) => {
    const unit = sampleBytes(CLUSTER, 7)
    const packed = name === 'zlib' ? deflateSync(unit) : deflateRawSync(unit)

    it('writes what zlib reads', () => {
      const inflate = name === 'zlib' ? inflateSync : inflateRawSync
      expect(Buffer.compare(inflate(codec.compress(unit)), unit)).toBe(0)
      expect(inflate(codec.compress(new Uint8Array(0)))).toHaveLength(0)
    })

    it('fills the target that it is given and leaves the rest alone', () => {
      const target = new Uint8Array(CLUSTER + 200).fill(0xee)
      const result = codec.decompress(packed, CLUSTER, target.subarray(100))
      expect(result.buffer).toBe(target.buffer)
      expect(result.byteOffset).toBe(100)
      expect(Buffer.compare(result, unit)).toBe(0)
      expect(target.subarray(0, 100).every((byte) => byte === 0xee)).toBe(true)
      expect(target.subarray(CLUSTER + 100).every((byte) => byte === 0xee)).toBe(true)
    })

    it('returns arrays of their own', () => {
      const first = codec.compress(unit)
      const copy = first.slice()
      codec.compress(sampleBytes(CLUSTER, 8))
      expect(first).toEqual(copy)
      const back = codec.decompress(first, CLUSTER)
      codec.decompress(codec.compress(new Uint8Array(CLUSTER)), CLUSTER)
      expect(Buffer.compare(back, unit)).toBe(0)
    })

    it('refuses data that gives fewer bytes than wanted, and goes on working', () => {
      expect(() => codec.decompress(packed, CLUSTER + 1)).toThrow(corrupt)
      expect(() => codec.decompress(padded(packed, 512), CLUSTER + 1)).toThrow(
        /ends after 65536 of 65537 bytes/,
      )
      expect(() => codec.decompress(packed.subarray(0, packed.length >>> 1), CLUSTER)).toThrow(corrupt)
      expect(Buffer.compare(codec.decompress(packed, CLUSTER), unit)).toBe(0)
    })

    it('refuses empty and garbage input', () => {
      expect(() => codec.decompress(new Uint8Array(0), CLUSTER)).toThrow(corrupt)
      expect(() => codec.decompress(new Uint8Array(512).fill(0xff), CLUSTER)).toThrow(corrupt)
      expect(() => codec.decompress(sampleBytes(512, 3), CLUSTER)).toThrow(corrupt)
      expect(codec.decompress(new Uint8Array(0), 0)).toHaveLength(0)
    })

    it('refuses wrong arguments', () => {
      expect(() => codec.decompress(packed, -1)).toThrow(RangeError)
      expect(() => codec.decompress(packed, 1.5)).toThrow(RangeError)
      expect(() => codec.decompress(packed, CLUSTER, new Uint8Array(CLUSTER - 1))).toThrow(RangeError)
      expect(() => codec.compress(unit, { level: 10 })).toThrow(RangeError)
      expect(() => codec.compress(unit, { level: Number.NaN })).toThrow(RangeError)
      expect(() => codec.compress(unit, { windowBits: 8 })).toThrow(RangeError)
    })
  })

  it('agrees on damaged data', () => {
    fc.assert(
      fc.property(
        units,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.nat(3),
        (unit, where, flip, cutting) => {
          fc.pre(unit.length > 0)
          const packed = new Uint8Array(name === 'zlib' ? deflateSync(unit) : deflateRawSync(unit))
          packed[where % packed.length]! ^= flip
          const damaged = packed.subarray(0, packed.length - cutting)
          const results = implementations.map(([, codec]) =>
            outcome(() => codec.decompress(damaged, unit.length)),
          )
          const [handle, calls, inPako] = results
          expect(inPako).toBe(handle)
          // The one-shot calls may refuse where the damage lies within a byte of the end of the wanted data.
          if (calls !== 'IMG_CORRUPT') expect(calls).toBe(handle)
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe.each(deflateImplementations('deflate-raw'))('deflate-raw with %s', (_label, codec) => {
  const unit = sampleBytes(CLUSTER, 11)
  const packed = deflateRawSync(unit)

  it('accepts a stream that is cut off behind the last wanted byte', () => {
    // Without its end-of-block code and final block the stream is incomplete, the bytes are not.
    const open = deflateRawSync(unit, { finishFlush: constants.Z_SYNC_FLUSH })
    expect(Buffer.compare(codec.decompress(open.subarray(0, open.length - 4), CLUSTER), unit)).toBe(0)
  })

  it('gives the start of a stream that goes on', () => {
    for (const length of [1, 2, 1000, CLUSTER - 1]) {
      expect(Buffer.compare(codec.decompress(padded(packed, 100), length), unit.subarray(0, length))).toBe(0)
    }
  })

  it('does not look at damage further behind, and refuses it right at the end, as zlib does', () => {
    const more = deflateRawSync(padded(unit, 1000, 7), { finishFlush: constants.Z_SYNC_FLUSH })
    expect(Buffer.compare(codec.decompress(padded(more, 64, 0xff), CLUSTER), unit)).toBe(0)
    const open = deflateRawSync(unit, { finishFlush: constants.Z_SYNC_FLUSH })
    expect(Buffer.compare(codec.decompress(open, CLUSTER), unit)).toBe(0)
    expect(() => codec.decompress(padded(open, 64, 0xff), CLUSTER)).toThrow(corrupt)
  })

  it('keeps to the window that it is given', () => {
    // Repeats only at a distance of 8 KiB, beyond 12 bits.
    const block = sampleBytes(8192, 5, 256)
    const far = new Uint8Array(CLUSTER)
    for (let at = 0; at < far.length; at += block.length) far.set(block, at)
    const small = codec.compress(far, { windowBits: 12 })
    expect(Buffer.compare(inflateRawSync(small, { windowBits: 12 }), far)).toBe(0)
    expect(() => inflateRawSync(codec.compress(far), { windowBits: 12 })).toThrow(/too far back/)
  })

  it('does not inflate a bomb beyond the wanted length', () => {
    const bomb = gibibyteOfZeros()
    const before = process.memoryUsage()
    const result = codec.decompress(bomb, CLUSTER)
    const after = process.memoryUsage()
    expect(result).toHaveLength(CLUSTER)
    expect(result.every((byte) => byte === 0)).toBe(true)
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(16 << 20)
    expect(after.rss - before.rss).toBeLessThan(128 << 20)
  })
})

describe.each(deflateImplementations('zlib'))('zlib with %s', (_label, codec) => {
  const unit = sampleBytes(CLUSTER, 13)
  const packed = deflateSync(unit)

  it('wants the whole stream and a right checksum', () => {
    const wrong = new Uint8Array(packed)
    wrong[wrong.length - 1]! ^= 1
    expect(() => codec.decompress(wrong, CLUSTER)).toThrow(corrupt)
    expect(() => codec.decompress(packed.subarray(0, packed.length - 1), CLUSTER)).toThrow(corrupt)
    expect(() => codec.decompress(packed.subarray(0, packed.length - 6), CLUSTER)).toThrow(corrupt)
  })

  it('refuses a stream that holds more', () => {
    expect(() => codec.decompress(packed, CLUSTER - 1)).toThrow(/holds more than 65535 bytes/)
    expect(() => codec.decompress(deflateSync(new Uint8Array(64 << 20)), CLUSTER)).toThrow(/holds more than/)
  })

  it('refuses a stream that needs a dictionary', () => {
    const needy = deflateSync(unit, { dictionary: Buffer.from('disk image') })
    expect(() => codec.decompress(needy, CLUSTER)).toThrow(corrupt)
  })
})

it('leaves unknown versions of Node to the public calls', () => {
  const original = Object.getOwnPropertyDescriptor(process, 'versions')!
  try {
    Object.defineProperty(process, 'versions', {
      ...original,
      value: { ...process.versions, node: '99.0.0' },
    })
    expect(handleDeflateCodec(nodeZlib()!, 'deflate-raw')).toBeUndefined()
  } finally {
    Object.defineProperty(process, 'versions', original)
  }
})

it('does not enter a stream twice, for hosts that run tasks when zlib reports an error', () => {
  const stream = createInflateRaw() as unknown as { _handle: { onerror: (...args: unknown[]) => void } }
  const handle = new ZlibHandle(stream)
  const good = deflateRawSync(new Uint8Array(100))
  const report = stream._handle.onerror
  const within: unknown[] = []
  stream._handle.onerror = (...args) => {
    report(...args)
    within.push(handle.run(good, new Uint8Array(100)))
  }
  expect(() => handle.run(new Uint8Array(50).fill(0xff), new Uint8Array(100))).toThrow('invalid block type')
  expect(within).toEqual([undefined])
  expect(handle.run(good, new Uint8Array(100))).toBe(100)
})

it('uses the one-shot calls while its stream is in use', () => {
  const streams: { _handle: { onerror: (...args: unknown[]) => void } }[] = []
  const zlib = nodeZlib()!
  const watched = {
    ...zlib,
    createInflateRaw: () => {
      const stream = createInflateRaw()
      streams.push(stream as never)
      return stream
    },
  } as typeof zlib
  const codec = handleDeflateCodec(watched, 'deflate-raw')!
  const unit = sampleBytes(1000, 1)
  const report = streams[0]!._handle.onerror
  let within: Uint8Array | undefined
  streams[0]!._handle.onerror = (...args) => {
    report(...args)
    within = codec.decompress(codec.compress(unit), unit.length)
  }
  expect(() => codec.decompress(new Uint8Array(50).fill(0xff), 100)).toThrow('invalid block type')
  expect(within).toEqual(unit)
})

it('falls back where the binding behaves otherwise', () => {
  const zlib = nodeZlib()!
  const broken = (change: object) => ({ ...zlib, ...change }) as typeof zlib
  expect(handleDeflateCodec(broken({ createInflateRaw: () => ({}) }), 'deflate-raw')).toBeUndefined()
  expect(handleDeflateCodec(broken({ createDeflateRaw: zlib.createDeflate }), 'deflate-raw')).toBeUndefined()
  expect(handleDeflateCodec(broken({ createInflateRaw: zlib.createInflate }), 'deflate-raw')).toBeUndefined()
  const codec = nodeDeflateCodec(zlib, 'deflate-raw')
  const unit = sampleBytes(1000, 1)
  expect(codec.decompress(codec.compress(unit), unit.length)).toEqual(unit)
})
