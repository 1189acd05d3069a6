import { describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'
import { storageFrom } from '../src/storage/custom.js'
import { expectCode, sampleBytes, storageContract } from './storage-contract.js'

const later = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0))

storageContract('storageFrom', {
  open: async (bytes) =>
    storageFrom({
      label: 'own',
      size: bytes.length,
      read: (offset, length) => bytes.slice(offset, offset + length),
    }),
})
storageContract('storageFrom, slow, reading ahead', {
  open: async (bytes) =>
    storageFrom({
      label: 'own',
      size: bytes.length,
      blockSize: 4096,
      readAhead: 32768,
      cacheBytes: 131072,
      maxRead: 16384,
      async read(offset, length) {
        await later()
        return bytes.slice(offset, offset + length)
      },
    }),
  runs: 20,
})

/** A source that records what it is asked for and answers when told. */
function recorder(size: number, options: { readAhead?: number; maxRead?: number } = {}) {
  const bytes = sampleBytes(size)
  const asked: { offset: number; length: number; signal: AbortSignal; answer: () => void }[] = []
  const storage = storageFrom({
    label: 'own',
    size,
    blockSize: 1024,
    cacheBytes: 256 * 1024,
    ...options,
    read: (offset, length, { signal }) =>
      new Promise((resolve) => {
        const answer = (): void => resolve(bytes.slice(offset, offset + length))
        asked.push({ offset, length, signal: signal as AbortSignal, answer })
      }),
  })
  return { bytes, asked, storage }
}

describe('storageFrom', () => {
  it('asks for whole blocks, up to the end', async () => {
    const calls: [number, number][] = []
    const storage = storageFrom({
      label: 'own',
      size: 2500,
      blockSize: 1000,
      read(offset, length) {
        calls.push([offset, length])
        return new Uint8Array(length)
      },
    })
    await storage.read(1500, new Uint8Array(900))
    expect(calls).toEqual([[1000, 1500]])
  })

  it('asks for at most maxRead bytes at a time', async () => {
    const { asked, storage, bytes } = recorder(10_000, { maxRead: 3000 })
    const into = new Uint8Array(7000)
    const reading = storage.read(500, into)
    for (const { answer } of asked) answer()
    await reading
    expect(asked.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 2048],
      [2048, 2048],
      [4096, 2048],
      [6144, 2048],
    ])
    expect(into).toEqual(bytes.subarray(500, 7500))
  })

  it('goes on for those who still wait when one gives up, and stops when all have', async () => {
    const { asked, storage, bytes } = recorder(10_000)
    const first = new AbortController()
    const second = new AbortController()
    const a = storage.read(0, new Uint8Array(10), { signal: first.signal })
    const into = new Uint8Array(10)
    const b = storage.read(5, into, { signal: second.signal })
    const c = storage.read(5000, new Uint8Array(10), { signal: second.signal })
    expect(asked.length).toBe(2)
    first.abort(new Error('one'))
    await expect(a).rejects.toThrow('one')
    expect(asked[0]?.signal.aborted).toBe(false)
    asked[0]?.answer()
    await b
    expect(into).toEqual(bytes.subarray(5, 15))
    second.abort(new Error('two'))
    await expect(c).rejects.toThrow('two')
    expect(asked[1]?.signal.aborted).toBe(true)
  })

  it('asks again for what was given up, rather than wait for it', async () => {
    const { asked, storage } = recorder(10_000)
    const controller = new AbortController()
    const given = storage.read(0, new Uint8Array(10), { signal: controller.signal })
    controller.abort()
    await expect(given).rejects.toThrow()
    const again = storage.read(0, new Uint8Array(10))
    expect(asked.length).toBe(2)
    asked[1]?.answer()
    await again
  })

  it('reads ahead of reads that go forward, and only of those', async () => {
    const { asked, storage } = recorder(100_000, { readAhead: 8192 })
    const step = async (offset: number): Promise<void> => {
      const reading = storage.read(offset, new Uint8Array(1024))
      for (const { answer } of asked) answer()
      await reading
      for (const { answer } of asked) answer()
      await later()
    }
    for (const block of [0, 20, 40, 10]) await step(block * 1024)
    expect(asked.length).toBe(4)
    for (let block = 50; block < 66; block++) await step(block * 1024)
    const forward = asked.slice(4)
    expect(forward.length).toBeLessThan(12)
    const last = forward.at(-1)
    expect((last?.offset ?? 0) + (last?.length ?? 0)).toBeGreaterThan(66 * 1024)
    expect((last?.offset ?? 0) + (last?.length ?? 0)).toBeLessThanOrEqual(66 * 1024 + 8192)
    const blocks = asked.flatMap(({ offset, length }) =>
      Array.from({ length: length / 1024 }, (_, i) => offset / 1024 + i),
    )
    expect(new Set(blocks).size).toBe(blocks.length)
  })

  it('keeps going ahead where all is cached by the time it is read', async () => {
    const { asked, storage } = recorder(100_000, { readAhead: 8192 })
    for (let offset = 0; offset < 60 * 1024; offset += 1024) {
      if (!storage.readSync?.(offset, new Uint8Array(1024))) {
        const reading = storage.read(offset, new Uint8Array(1024))
        for (const { answer } of asked) answer()
        await reading
      }
      for (const { answer } of asked) answer()
      await later()
    }
    expect(asked.length).toBeLessThan(25)
  })

  it('does not fail a read because reading ahead did', async () => {
    const storage = storageFrom({
      label: 'own',
      size: 100_000,
      blockSize: 1024,
      readAhead: 8192,
      read(offset, length) {
        if (offset + length > 10_240) throw new Error('too far')
        return new Uint8Array(length)
      },
    })
    for (let offset = 0; offset < 10_240; offset += 1024) await storage.read(offset, new Uint8Array(1024))
    const error = await expectCode(() => storage.read(10_240, new Uint8Array(1)), 'IMG_IO')
    expect(error.message).toContain('too far')
  })

  it('gives errors a code, and passes on those that have one', async () => {
    const own = new ImageError('IMG_PERMISSION', 'no')
    const failing = (failure: unknown) =>
      storageFrom({
        label: 'own',
        size: 10,
        read() {
          throw failure
        },
      }).read(0, new Uint8Array(1))
    await expect(failing(own)).rejects.toBe(own)
    const error = await expectCode(() => failing(new Error('no such bucket')), 'IMG_IO')
    expect(error.message).toContain('no such bucket')
  })

  it('refuses an answer of the wrong length', async () => {
    for (const wrong of [0, 9, 11]) {
      const storage = storageFrom({ label: 'own', size: 10, read: () => new Uint8Array(wrong) })
      await expectCode(() => storage.read(0, new Uint8Array(5)), 'IMG_IO')
    }
  })

  it('closes the source, once', async () => {
    let closes = 0
    const storage = storageFrom({
      label: 'own',
      size: 1,
      read: () => new Uint8Array(1),
      close: () => void closes++,
    })
    await storage.close()
    await storage.close()
    expect(closes).toBe(1)
  })

  it('refuses sizes that cannot be', () => {
    const source = { label: 'own', size: 1, read: () => new Uint8Array(1) }
    expect(() => storageFrom({ ...source, size: -1 })).toThrow(RangeError)
    expect(() => storageFrom({ ...source, maxRead: 10 })).toThrow(RangeError)
    expect(() => storageFrom({ ...source, readAhead: Number.NaN })).toThrow(RangeError)
  })
})
