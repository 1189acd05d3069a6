import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'
import { isWritable, type Storage, type StorageExtent, type WritableStorage } from '../src/storage.js'

/** What a storage under test is given as. */
export interface StorageSubject {
  /** A new storage that holds these bytes. Called many times; each is closed by the suite. */
  open(bytes: Uint8Array): Promise<Storage>
  /** Removes what `open` left behind. Called once, at the end. */
  cleanup?(): Promise<void>
  /** Random cases of each property. Default 40. */
  runs?: number
}

/** Members that a storage has all or none of, and those that only a writable one may have. */
const writers = ['write', 'truncate', 'flush'] as const
const optionalWriters = ['writeSync', 'writeZeroes', 'discard', 'preallocate'] as const

/** Bytes that differ from place to place, with a hole of zeros in the middle third. */
export function sampleBytes(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    if (i < length / 3 || i >= (length * 2) / 3) bytes[i] = state >>> 24
  }
  return bytes
}

/** The suite that every kind of storage passes; what a storage cannot do is left out by the members it lacks. */
export function storageContract(name: string, subject: StorageSubject): void {
  describe(`${name}: storage contract`, () => {
    const runs = { numRuns: subject.runs ?? 40 }
    const content = sampleBytes(200_003)
    let shared: Storage

    /** Opens, tests, closes. */
    async function using<T>(bytes: Uint8Array, test: (storage: Storage) => Promise<T>): Promise<T> {
      const storage = await subject.open(bytes)
      try {
        return await test(storage)
      } finally {
        await storage.close()
      }
    }

    beforeAll(async () => {
      shared = await subject.open(content)
    })
    afterAll(async () => {
      await shared?.close()
      await subject.cleanup?.()
    })

    describe('reading', () => {
      it('tells its size and a label', () => {
        expect(shared.size).toBe(content.length)
        expect(shared.label).not.toBe('')
      })

      it('reads all of it', async () => {
        expect(same(await readAll(shared), content)).toBe(true)
      })

      it('reads any range as the plain bytes have it, and writes nothing beside it', async () => {
        await fc.assert(
          fc.asyncProperty(ranges(content.length), fc.nat(16), async ([offset, length], margin) => {
            const around = new Uint8Array(length + 2 * margin).fill(0xee)
            await shared.read(offset, around.subarray(margin, margin + length))
            expect(
              same(around.subarray(margin, margin + length), content.subarray(offset, offset + length)),
            ).toBe(true)
            expect(around.subarray(0, margin).every((byte) => byte === 0xee)).toBe(true)
            expect(around.subarray(margin + length).every((byte) => byte === 0xee)).toBe(true)
          }),
          runs,
        )
      })

      it('reads many ranges at a time', async () => {
        const wanted = fc.sample(ranges(content.length), 40)
        const results = await Promise.all(
          wanted.map(async ([offset, length]) => {
            const into = new Uint8Array(length)
            await shared.read(offset, into)
            return same(into, content.subarray(offset, offset + length))
          }),
        )
        expect(results).toEqual(wanted.map(() => true))
      })

      it('reads nothing where nothing is asked for, also at the end', async () => {
        await shared.read(0, new Uint8Array(0))
        await shared.read(content.length, new Uint8Array(0))
      })

      it('holds nothing where there is nothing', async () => {
        await using(new Uint8Array(0), async (empty) => {
          expect(empty.size).toBe(0)
          await empty.read(0, new Uint8Array(0))
          await expectCode(() => empty.read(0, new Uint8Array(1)), 'IMG_TRUNCATED')
        })
      })

      it('refuses a range that ends past the end with IMG_TRUNCATED', async () => {
        for (const [offset, length] of [
          [content.length, 1],
          [content.length - 10, 11],
          [0, content.length + 1],
          [content.length + 5, 0],
          [2 ** 45, 512],
        ] as const) {
          const error = await expectCode(() => shared.read(offset, new Uint8Array(length)), 'IMG_TRUNCATED')
          expect(error.source).toBe(shared.label)
        }
      })

      it('refuses what is no offset with a RangeError', async () => {
        for (const offset of [-1, 0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY]) {
          await expect(shared.read(offset, new Uint8Array(1))).rejects.toThrow(RangeError)
        }
      })

      it('rejects with the reason of a signal that has aborted', async () => {
        const reason = new Error('enough')
        const into = new Uint8Array(100_000)
        await expect(shared.read(0, into, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
        expect(into.every((byte) => byte === 0)).toBe(true)
      })

      it('reads at once the same bytes, or does nothing', async () => {
        if (!shared.readSync) return
        await fc.assert(
          fc.asyncProperty(ranges(content.length), async ([offset, length]) => {
            const into = new Uint8Array(length).fill(0xee)
            if (shared.readSync?.(offset, into)) {
              expect(same(into, content.subarray(offset, offset + length))).toBe(true)
            } else expect(into.every((byte) => byte === 0xee)).toBe(true)
          }),
          runs,
        )
        expect(() => shared.readSync?.(content.length, new Uint8Array(1))).toThrow(ImageError)
        expect(() => shared.readSync?.(-1, new Uint8Array(1))).toThrow(RangeError)
      })
    })

    describe('extents', () => {
      it('cover any range: ascending, gap-free, merged, holes reading as zeros', async () => {
        if (!shared.extents) return
        await fc.assert(
          fc.asyncProperty(ranges(content.length), async ([offset, length]) => {
            const extents = await list(shared, offset, length)
            let at = offset
            let last: StorageExtent | undefined
            for (const extent of extents) {
              expect(extent.offset).toBe(at)
              expect(extent.length).toBeGreaterThan(0)
              expect(extent.data).not.toBe(last?.data)
              at += extent.length
              last = extent
              if (!extent.data) {
                expect(content.subarray(extent.offset, at).every((byte) => byte === 0)).toBe(true)
              }
            }
            expect(at).toBe(offset + length)
          }),
          runs,
        )
      })

      it('refuse a range past the end, and a signal that has aborted', async () => {
        if (!shared.extents) return
        await expect(list(shared, 0, content.length + 1)).rejects.toThrow(RangeError)
        const reason = new Error('enough')
        await expect(list(shared, 0, 512, AbortSignal.abort(reason))).rejects.toBe(reason)
      })
    })

    describe('slices', () => {
      it('read as the part that they are, nested too', async () => {
        await fc.assert(
          fc.asyncProperty(
            ranges(content.length),
            fc.nat(1000),
            fc.nat(1000),
            async ([offset, length], a, b) => {
              const slice = shared.slice(offset, length)
              expect(slice.size).toBe(length)
              expect(same(await readAll(slice), content.subarray(offset, offset + length))).toBe(true)
              const from = Math.floor((length * a) / 1001)
              const count = Math.floor(((length - from) * b) / 1001)
              const inner = slice.slice(from, count)
              expect(same(await readAll(inner), content.subarray(offset + from, offset + from + count))).toBe(
                true,
              )
              const rest = slice.slice(from)
              expect(rest.size).toBe(length - from)
            },
          ),
          { numRuns: Math.ceil(runs.numRuns / 2) },
        )
      })

      it('end where they end', async () => {
        const slice = shared.slice(1000, 500)
        await expectCode(() => slice.read(499, new Uint8Array(2)), 'IMG_TRUNCATED')
        expect(() => slice.slice(0, 501)).toThrow(RangeError)
        expect(() => slice.slice(501)).toThrow(RangeError)
        expect(() => shared.slice(content.length, 1)).toThrow(RangeError)
        expect(() => shared.slice(-1)).toThrow(RangeError)
      })

      it('have the members that the storage has', () => {
        const slice = shared.slice(512)
        for (const member of ['readSync', 'extents', ...writers, ...optionalWriters] as const) {
          expect([member, typeof slice[member]]).toEqual([member, typeof shared[member]])
        }
      })

      it('show their extents in their own offsets', async () => {
        if (!shared.extents) return
        const whole = await list(shared, 70_000, 100_000)
        const part = await list(shared.slice(70_000, 100_000), 0, 100_000)
        expect(part.map((extent) => ({ ...extent, offset: extent.offset + 70_000 }))).toEqual(whole)
      })

      it('are closed alone', async () => {
        const slice = shared.slice(0, 512)
        await slice.close()
        await slice.close()
        await expectCode(() => slice.read(0, new Uint8Array(1)), 'IMG_CLOSED')
        await shared.read(0, new Uint8Array(1))
      })
    })

    describe('closing', () => {
      it('can be done twice, and ends all use', async () => {
        const storage = await subject.open(content.slice(0, 4096))
        await storage.close()
        await storage.close()
        await expectCode(() => storage.read(0, new Uint8Array(1)), 'IMG_CLOSED')
        await expectCode(async () => storage.readSync?.(0, new Uint8Array(1)) ?? closed(), 'IMG_CLOSED')
        await expectCode(() => list(storage, 0, 512), 'IMG_CLOSED')
        await expectCode(async () => storage.slice(0, 1), 'IMG_CLOSED')
        await expectCode(async () => storage.write?.(0, new Uint8Array(1)) ?? closed(), 'IMG_CLOSED')
        await expectCode(async () => storage.writeSync?.(0, new Uint8Array(1)) ?? closed(), 'IMG_CLOSED')
        await expectCode(async () => storage.truncate?.(0) ?? closed(), 'IMG_CLOSED')
        await expectCode(async () => storage.writeZeroes?.(0, 1) ?? closed(), 'IMG_CLOSED')
        await expectCode(async () => storage.discard?.(0, 1) ?? closed(), 'IMG_CLOSED')
        await expectCode(async () => storage.flush?.() ?? closed(), 'IMG_CLOSED')
      })

      it('is what disposing does', async () => {
        const storage = await subject.open(content.slice(0, 4096))
        await storage[Symbol.asyncDispose]()
        await expectCode(() => storage.read(0, new Uint8Array(1)), 'IMG_CLOSED')
      })
    })

    describe('writing', () => {
      it('is offered whole or not at all', () => {
        const has = writers.filter((member) => shared[member] !== undefined)
        expect(has).toEqual(isWritable(shared) ? [...writers] : [])
        if (!isWritable(shared)) expect(optionalWriters.filter((member) => shared[member])).toEqual([])
      })

      it('leaves what a plain array would hold, whatever is done in whatever order', async () => {
        if (!isWritable(shared)) return
        await fc.assert(
          fc.asyncProperty(
            fc.integer({ min: 0, max: 20_000 }),
            fc.array(changes(40_000), { maxLength: 12 }),
            async (size, ops) => {
              await using(sampleBytes(size), async (storage) => {
                const model = new Model(sampleBytes(size))
                for (const op of ops) {
                  await apply(storage as WritableStorage, model, op)
                  expect(storage.size).toBe(model.bytes.length)
                }
                expect(model.matches(await readAll(storage))).toBe(true)
              })
            },
          ),
          runs,
        )
      })

      it('of nothing changes nothing, wherever', async () => {
        if (!isWritable(shared)) return
        await using(sampleBytes(700), async (storage) => {
          await storage.write?.(10_000, new Uint8Array(0))
          storage.writeSync?.(10_000, new Uint8Array(0))
          await storage.writeZeroes?.(10_000, 0)
          await storage.discard?.(10_000, 0)
          expect(await readAll(storage)).toEqual(sampleBytes(700))
        })
      })

      it('keeps the bytes given, not the array', async () => {
        if (!isWritable(shared)) return
        await using(new Uint8Array(0), async (storage) => {
          const bytes = Uint8Array.of(1, 2, 3)
          await storage.write?.(0, bytes)
          bytes.fill(9)
          expect(await readAll(storage)).toEqual(Uint8Array.of(1, 2, 3))
        })
      })

      it('does nothing where the signal has aborted', async () => {
        if (!isWritable(shared)) return
        const bytes = sampleBytes(5000)
        await using(bytes, async (storage) => {
          const reason = new Error('enough')
          const options = { signal: AbortSignal.abort(reason) }
          await expect(storage.write?.(0, new Uint8Array(9), options)).rejects.toBe(reason)
          await expect(storage.truncate?.(3, options)).rejects.toBe(reason)
          await expect(storage.flush?.(options)).rejects.toBe(reason)
          if (storage.writeZeroes) await expect(storage.writeZeroes(0, 9, options)).rejects.toBe(reason)
          if (storage.discard) await expect(storage.discard(0, 9, options)).rejects.toBe(reason)
          expect(await readAll(storage)).toEqual(bytes)
        })
      })

      it('refuses what is no offset with a RangeError', async () => {
        if (!isWritable(shared)) return
        await using(sampleBytes(512), async (storage) => {
          for (const bad of [-1, 0.5, Number.NaN, 2 ** 53]) {
            await expect(storage.write?.(bad, new Uint8Array(1))).rejects.toThrow(RangeError)
            await expect(storage.truncate?.(bad)).rejects.toThrow(RangeError)
            if (storage.writeZeroes) await expect(storage.writeZeroes(0, bad)).rejects.toThrow(RangeError)
          }
          expect(await readAll(storage)).toEqual(sampleBytes(512))
        })
      })

      it('through a slice stays inside it', async () => {
        if (!isWritable(shared)) return
        await using(sampleBytes(4096), async (storage) => {
          const slice = storage.slice(1024, 1024)
          await slice.write?.(1000, new Uint8Array(24).fill(7))
          const before = await readAll(storage)
          const expected = sampleBytes(4096)
          expected.fill(7, 2024, 2048)
          expect(before).toEqual(expected)
          await expectCode(() => slice.write?.(1000, new Uint8Array(25)), 'IMG_NO_SPACE')
          await expectCode(() => slice.truncate?.(1025), 'IMG_NO_SPACE')
          await expectCode(() => slice.truncate?.(1023), 'IMG_UNSUPPORTED')
          await slice.truncate?.(1024)
          if (slice.writeSync)
            await expectCode(async () => slice.writeSync?.(1024, new Uint8Array(1)), 'IMG_NO_SPACE')
          if (slice.writeZeroes) await expectCode(() => slice.writeZeroes?.(1024, 1), 'IMG_NO_SPACE')
          await slice.discard?.(1023, 2 ** 40)
          const after = await readAll(storage)
          expect(same(after.subarray(0, 2047), before.subarray(0, 2047))).toBe(true)
          expect(same(after.subarray(2048), before.subarray(2048))).toBe(true)
          await slice.flush?.()
        })
      })
    })
  })
}

function closed(): never {
  throw new ImageError('IMG_CLOSED', 'the member is absent')
}

/** Equal bytes. Much faster than the matcher on long arrays. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Offset and length of a range within `size` bytes: short ones, long ones, ones at the edges. */
export function ranges(size: number): fc.Arbitrary<[number, number]> {
  return fc
    .tuple(fc.integer({ min: 0, max: size }), fc.oneof(fc.nat(64), fc.nat(5000), fc.nat(size)))
    .map(([offset, length]) => [offset, Math.min(length, size - offset)])
}

/** All bytes of a storage. */
export async function readAll(storage: Storage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size)
  await storage.read(0, bytes)
  return bytes
}

/** Expects an ImageError of that code, thrown or rejected, and returns it. */
export async function expectCode(action: () => unknown, code: ImageError['code']): Promise<ImageError> {
  try {
    await action()
  } catch (error) {
    if (!ImageError.is(error, code)) throw error
    return error
  }
  throw new Error(`expected ${code}, but nothing was thrown`)
}

async function list(
  storage: Storage,
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<StorageExtent[]> {
  const extents: StorageExtent[] = []
  if (!storage.extents) return closed()
  for await (const extent of storage.extents(offset, length, { signal })) extents.push(extent)
  return extents
}

type Change =
  | { readonly kind: 'write' | 'writeSync'; readonly offset: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'writeZeroes' | 'discard'
      readonly offset: number
      readonly length: number
      readonly unmap: boolean
    }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'flush' }

function changes(limit: number): fc.Arbitrary<Change> {
  const offset = fc.nat(limit)
  const length = fc.oneof(fc.nat(20), fc.nat(9000))
  return fc.oneof(
    fc.record({
      kind: fc.constantFrom('write' as const, 'writeSync' as const),
      offset,
      bytes: fc.tuple(length, fc.nat(1000)).map(([count, seed]) => sampleBytes(count, seed)),
    }),
    fc.record({
      kind: fc.constantFrom('writeZeroes' as const, 'discard' as const),
      offset,
      length,
      unmap: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('truncate' as const), size: fc.nat(limit) }),
    fc.constant({ kind: 'flush' as const }),
  )
}

/** A plain array that grows, and which of its bytes were discarded: those may read as anything. */
class Model {
  bytes: Uint8Array
  unknown: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.unknown = new Uint8Array(bytes.length)
  }

  resize(size: number): void {
    this.bytes = resized(this.bytes, size)
    this.unknown = resized(this.unknown, size)
  }

  put(offset: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    this.resize(Math.max(this.bytes.length, offset + bytes.length))
    this.bytes.set(bytes, offset)
    this.unknown.fill(0, offset, offset + bytes.length)
  }

  matches(bytes: Uint8Array): boolean {
    return (
      bytes.length === this.bytes.length &&
      bytes.every((byte, i) => this.unknown[i] === 1 || byte === this.bytes[i])
    )
  }
}

function resized(bytes: Uint8Array, size: number): Uint8Array {
  const other = new Uint8Array(size)
  other.set(bytes.subarray(0, size))
  return other
}

async function apply(storage: WritableStorage, model: Model, op: Change): Promise<void> {
  switch (op.kind) {
    case 'writeSync':
      if (!storage.writeSync?.(op.offset, op.bytes)) await storage.write(op.offset, op.bytes)
      return model.put(op.offset, op.bytes)
    case 'write':
      await storage.write(op.offset, op.bytes)
      return model.put(op.offset, op.bytes)
    case 'writeZeroes':
      if (!storage.writeZeroes) return
      await storage.writeZeroes(op.offset, op.length, { unmap: op.unmap })
      return model.put(op.offset, new Uint8Array(op.length))
    case 'discard':
      if (!storage.discard) return
      await storage.discard(op.offset, op.length)
      model.unknown.fill(1, op.offset, op.offset + op.length)
      return
    case 'truncate':
      await storage.truncate(op.size)
      return model.resize(op.size)
    case 'flush':
      return storage.flush()
  }
}
