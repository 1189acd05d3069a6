import { describe, expect, it } from 'vitest'
import { blobStorage } from '../src/storage/blob.js'
import { memoryStorage } from '../src/storage/memory.js'
import { sliceStorage } from '../src/storage/slice.js'
import type { Storage } from '../src/storage.js'
import { readAll, sampleBytes, storageContract } from './storage-contract.js'

const descriptor = Symbol.for('@img/node:fd')

/** The bytes with something before and after them, and the part of that storage that they are. */
function embed(bytes: Uint8Array, readOnly: boolean): Storage {
  const around = new Uint8Array(bytes.length + 1536).fill(0xaa)
  around.set(bytes, 1024)
  const whole = readOnly ? memoryStorage(around, { readOnly }) : memoryStorage(around)
  return sliceStorage(whole, 1024, bytes.length)
}

storageContract('sliceStorage', { open: async (bytes) => embed(bytes, true) })

describe('sliceStorage', () => {
  it('has no member that the storage lacks', () => {
    const slice = sliceStorage(blobStorage(new Blob(['0123456789'])), 2, 5)
    for (const member of [
      'write',
      'writeSync',
      'truncate',
      'writeZeroes',
      'discard',
      'preallocate',
      'flush',
    ]) {
      expect(member in slice).toBe(false)
    }
    expect('extents' in slice).toBe(false)
    expect('hostSize' in slice).toBe(false)
    expect(descriptor in slice).toBe(false)
    expect('readSync' in slice).toBe(true)
  })

  it('is the rest where no length is given', async () => {
    const slice = sliceStorage(memoryStorage(sampleBytes(100)), 40)
    expect(slice.size).toBe(60)
    expect(await readAll(slice)).toEqual(sampleBytes(100).subarray(40))
  })

  it('keeps its size where the storage grows', async () => {
    const storage = memoryStorage(sampleBytes(100))
    const slice = sliceStorage(storage, 40)
    await storage.truncate(200)
    expect(slice.size).toBe(60)
  })

  it('says which part it is, and of what', () => {
    const slice = sliceStorage(memoryStorage(sampleBytes(100), { label: 'box.ova' }), 10, 20)
    expect(slice.label).toBe('box.ova (bytes 10 to 30)')
    expect(slice.slice(5, 5).label).toBe('box.ova (bytes 15 to 20)')
  })

  it('is another thing than the storage and than other parts of it', () => {
    const file: Storage = Object.assign(memoryStorage(sampleBytes(100)), { identity: 'file:1' })
    expect(sliceStorage(file, 0, 10).identity).toBe(sliceStorage(file, 0, 10).identity)
    const identities = [file, sliceStorage(file, 0, 10), sliceStorage(file, 10, 10)].map(
      ({ identity }) => identity,
    )
    expect(new Set(identities).size).toBe(3)
    expect(sliceStorage(memoryStorage(sampleBytes(9)), 1).identity).toBeUndefined()
  })

  it('flattens: a slice of a slice does not go through it', async () => {
    const storage = memoryStorage(sampleBytes(1000))
    const outer = sliceStorage(storage, 100, 500)
    const inner = sliceStorage(outer, 10, 20)
    await outer.close()
    expect(await readAll(inner)).toEqual(sampleBytes(1000).subarray(110, 130))
  })

  it('tells the descriptor of the file with its own base, and none once closed', async () => {
    const handle = { fd: 7, base: 512, path: '/disk', writable: true, regular: true }
    const file = Object.assign(memoryStorage(sampleBytes(5000)), { [descriptor]: () => handle })
    const inner = sliceStorage(sliceStorage(file, 1000), 24, 100) as Storage & { [descriptor]: () => unknown }
    expect(inner[descriptor]()).toEqual({ ...handle, base: 512 + 1024 })
    await inner.close()
    expect(inner[descriptor]()).toBeUndefined()
  })

  it('adds up what is allocated of it', async () => {
    const bytes = new Uint8Array(5 * 4096)
    bytes[4096] = 1
    const file = Object.assign(memoryStorage(bytes), { hostSize: () => 4096 })
    expect(await sliceStorage(file, 4096, 8192).hostSize?.()).toBe(4096)
    expect(await sliceStorage(file, 8192).hostSize?.()).toBe(0)
  })

  it('writes, zeroes and reserves room only inside', async () => {
    const calls: unknown[] = []
    const file: Storage = Object.assign(memoryStorage(new Uint8Array(4096).fill(1)), {
      preallocate: async (...args: unknown[]) => void calls.push(args.slice(0, 3)),
    })
    const slice = sliceStorage(file, 1000, 1000)
    await slice.writeZeroes?.(10, 20)
    await slice.preallocate?.(0, 1000, 'falloc')
    expect(calls).toEqual([[1000, 1000, 'falloc']])
    await expect(slice.preallocate?.(0, 1001, 'full')).rejects.toMatchObject({ code: 'IMG_NO_SPACE' })
    const bytes = await readAll(file)
    expect([bytes[1009], bytes[1010], bytes[1029], bytes[1030]]).toEqual([1, 0, 0, 1])
  })
})
