import { memoryStorage, type Storage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encryptedStorage, sectorCipher } from '../src/index.js'

async function cipher() {
  return sectorCipher(
    { mode: 'xts', ivgen: 'plain64' },
    Uint8Array.from({ length: 64 }, (_, i) => i),
  )
}

describe('encryptedStorage', () => {
  it('reads back what was written, at any offset, and leaves the rest alone', async () => {
    const sectors = await cipher()
    const size = 700 * 512
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            offset: fc.integer({ min: 0, max: size - 1 }),
            length: fc.integer({ min: 0, max: 300_000 }),
            fill: fc.integer({ min: 1, max: 255 }),
            sync: fc.boolean(),
            aligned: fc.boolean(),
          }),
          { maxLength: 12 },
        ),
        fc.boolean(),
        async (writes, waits) => {
          const inner = memoryStorage(new Uint8Array(size + 1024))
          const beneath: Storage = waits ? withoutSync(inner) : inner
          const storage = encryptedStorage(beneath, sectors, { base: 1024 })
          const model = new Uint8Array(size)
          await storage.write?.(0, model)
          for (const write of writes) {
            const unit = write.aligned ? 512 : 1
            const offset = Math.floor(write.offset / unit) * unit
            const length = Math.floor(Math.min(write.length, size - offset) / unit) * unit
            const bytes = new Uint8Array(length).fill(write.fill)
            if (!write.sync || storage.writeSync?.(offset, bytes) !== true)
              await storage.write?.(offset, bytes)
            model.set(bytes, offset)
            const into = new Uint8Array(Math.min(size - offset, length + 700))
            if (!write.sync || storage.readSync?.(offset, into) !== true) await storage.read(offset, into)
            expect(Buffer.compare(into, model.subarray(offset, offset + into.length))).toBe(0)
          }
          const all = new Uint8Array(size)
          await storage.read(0, all)
          expect(Buffer.compare(all, model)).toBe(0)
          const head = new Uint8Array(1024)
          await inner.read(0, head)
          expect(head.every((byte) => byte === 0)).toBe(true)
        },
      ),
      { numRuns: 30 },
    )
  })

  it('numbers the sectors from the vector offset', async () => {
    const sectors = await cipher()
    const inner = memoryStorage(new Uint8Array(4096))
    const storage = encryptedStorage(inner, sectors, { base: 512, vectorOffset: 5 * 512 })
    await storage.write?.(1024, new Uint8Array(512).fill(7))
    const stored = new Uint8Array(512)
    await inner.read(1536, stored)
    sectors.decrypt(stored, 7)
    expect(stored.every((byte) => byte === 7)).toBe(true)
  })

  it('grows with a write past the end, and refuses to read there', async () => {
    const storage = encryptedStorage(memoryStorage(new Uint8Array(512)), await cipher())
    await storage.write?.(600, new Uint8Array(100).fill(1))
    expect(storage.size).toBe(1024)
    const into = new Uint8Array(100)
    await storage.read(600, into)
    expect(into.every((byte) => byte === 1)).toBe(true)
    await expect(storage.read(1000, into)).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
    expect(() => storage.readSync?.(1000, into)).toThrow(/ends before byte/)
  })

  it('tells of no holes, and is read-only over what is', async () => {
    const inner = memoryStorage(new Uint8Array(512))
    expect(inner.extents).toBeDefined()
    expect(encryptedStorage(inner, await cipher()).extents).toBeUndefined()
    expect(encryptedStorage(inner, await cipher()).writeZeroes).toBeUndefined()
    const fixed = { ...withoutSync(inner), write: undefined } as unknown as Storage
    expect(encryptedStorage(fixed, await cipher()).write).toBeUndefined()
    await expect(async () => encryptedStorage(inner, await cipher(), { base: 5 })).rejects.toThrow(RangeError)
  })
})

/** The same storage, but whoever uses it has to wait. */
function withoutSync(inner: Storage): Storage {
  return {
    label: inner.label,
    get size() {
      return inner.size
    },
    read: (offset, into) => inner.read(offset, into),
    write: async (offset, bytes) => inner.write?.(offset, bytes),
    truncate: async (size) => inner.truncate?.(size),
    flush: async () => inner.flush?.(),
    slice: (offset, length) => inner.slice(offset, length),
    close: () => inner.close(),
    [Symbol.asyncDispose]: () => inner.close(),
  }
}
