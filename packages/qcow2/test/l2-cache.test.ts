import { memoryStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { L2Cache } from '../src/tables.js'

const slice = 65536

/** Four slices, the third with an entry; the buffers that were read into are noted. */
function tables() {
  const bytes = new Uint8Array(4 * slice)
  bytes[2 * slice + 7] = 5
  const file = memoryStorage(bytes)
  const buffers = new Set<ArrayBufferLike>()
  const readSync = (offset: number, into: Uint8Array): boolean => {
    buffers.add(into.buffer)
    into.set(bytes.subarray(offset, offset + into.length))
    return true
  }
  const read = async (offset: number, into: Uint8Array): Promise<void> => void readSync(offset, into)
  const storage = new Proxy(file, {
    get: (target, key) => (key === 'readSync' ? readSync : key === 'read' ? read : Reflect.get(target, key)),
  })
  return { cache: new L2Cache(storage, 2 * 1024 * 1024), buffers }
}

describe('slices of L2 tables without entries', () => {
  it('take no memory each, read at once', () => {
    const { cache, buffers } = tables()
    const first = cache.slice(0)
    expect(first?.every((word) => word === 0)).toBe(true)
    expect(cache.slice(slice)).toBe(first)
    expect(cache.slice(2 * slice)?.[1]).toBe(5)
    expect(buffers.size).toBe(1)
    expect(cache.slice(3 * slice)).toBe(first)
    expect(cache.slice(2 * slice)?.[1]).toBe(5)
    expect(buffers.size).toBe(2)
  })

  it('take no memory each, loaded one after the other or together', async () => {
    const { cache, buffers } = tables()
    await cache.load(0)
    await cache.load(slice)
    expect(buffers.size).toBe(1)
    await Promise.all([cache.load(2 * slice), cache.load(3 * slice)])
    expect(buffers.size).toBe(2)
    expect(cache.slice(slice)).toBe(cache.slice(0))
    expect(cache.slice(3 * slice)).toBe(cache.slice(0))
    expect(cache.slice(2 * slice)?.[1]).toBe(5)
  })

  it('are changed each for itself', () => {
    const { cache } = tables()
    const other = cache.slice(slice)
    const pinned = cache.pin(0)
    if (pinned === undefined) throw new Error('not read')
    pinned[3] = 7
    cache.touch(0, 3, 4)
    expect(cache.slice(0)?.[3]).toBe(7)
    expect(cache.pin(0)).toBe(pinned)
    expect(other?.[3]).toBe(0)
    expect(cache.slice(3 * slice)?.[3]).toBe(0)
    expect([...cache.changed()]).toEqual([{ slice: 0, offset: 12, bytes: new Uint8Array([0, 0, 0, 7]) }])
  })
})
