import { describe, expect, it } from 'vitest'
import { memoryStorage } from '../src/storage/memory.js'
import { isWritable } from '../src/storage.js'
import { expectCode, sampleBytes, storageContract } from './storage-contract.js'

storageContract('memoryStorage', { open: async (bytes) => memoryStorage(bytes.slice()) })
storageContract('memoryStorage, read-only', {
  open: async (bytes) => memoryStorage(bytes, { readOnly: true }),
})

describe('memoryStorage', () => {
  it('is empty without bytes, and writable', async () => {
    const storage = memoryStorage()
    expect(storage.size).toBe(0)
    expect(storage.label).toBe('memory')
    expect(isWritable(storage)).toBe(true)
    await storage.write(5, Uint8Array.of(1))
    expect(storage.bytes()).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 1))
  })

  it('uses the array that it is given, until it has to grow', async () => {
    const bytes = new Uint8Array(4)
    const storage = memoryStorage(bytes, { label: 'mine' })
    expect(storage.label).toBe('mine')
    await storage.write(0, Uint8Array.of(1))
    expect(bytes[0]).toBe(1)
    await storage.write(4, Uint8Array.of(2))
    await storage.write(0, Uint8Array.of(3))
    expect(bytes[0]).toBe(1)
    expect(storage.bytes()).toEqual(Uint8Array.of(3, 0, 0, 0, 2))
  })

  it('grows by doubling, so that appending copies little', async () => {
    const storage = memoryStorage()
    const buffers = new Set<ArrayBufferLike>()
    for (let i = 0; i < 1000; i++) {
      await storage.write(i * 100, new Uint8Array(100).fill(1))
      buffers.add(storage.bytes().buffer)
    }
    expect(storage.size).toBe(100_000)
    expect(buffers.size).toBeLessThan(15)
  })

  it('reads zeros where it shrank and grew again', async () => {
    const storage = memoryStorage(sampleBytes(1000))
    await storage.truncate(10)
    await storage.truncate(1000)
    expect(storage.bytes().subarray(10)).toEqual(new Uint8Array(990))
    await storage.truncate(0)
    await storage.truncate(5)
    expect(storage.bytes()).toEqual(new Uint8Array(5))
  })

  it('has no space beyond what the runtime gives', async () => {
    const storage = memoryStorage()
    await expectCode(() => storage.truncate(2 ** 52), 'IMG_NO_SPACE')
    await expectCode(() => storage.write(2 ** 52, new Uint8Array(1)), 'IMG_NO_SPACE')
    expect(storage.size).toBe(0)
  })

  it('shows blocks of zeros as holes', async () => {
    const storage = memoryStorage(new Uint8Array(5 * 4096 + 100))
    await storage.write(2 * 4096 + 7, Uint8Array.of(1))
    const extents: unknown[] = []
    for await (const extent of storage.extents(100, storage.size - 100)) extents.push(extent)
    expect(extents).toEqual([
      { offset: 100, length: 2 * 4096 - 100, data: false },
      { offset: 2 * 4096, length: 4096, data: true },
      { offset: 3 * 4096, length: 2 * 4096 + 100, data: false },
    ])
  })

  it('still gives its bytes once closed: an image that was written closes its storage', async () => {
    const storage = memoryStorage()
    await storage.write(0, Uint8Array.of(1, 2))
    await storage.close()
    expect(storage.bytes()).toEqual(Uint8Array.of(1, 2))
  })
})
