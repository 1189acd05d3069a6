import { describe, expect, it } from 'vitest'
import { blobStorage } from '../src/storage/blob.js'
import { expectCode, readAll, sampleBytes, storageContract } from './storage-contract.js'

storageContract('blobStorage', { open: async (bytes) => blobStorage(new Blob([bytes as BlobPart])) })
storageContract('blobStorage with tiny blocks and hardly a cache', {
  open: async (bytes) => blobStorage(new Blob([bytes as BlobPart]), { blockSize: 512, cacheBytes: 1000 }),
  runs: 15,
})

/** A Blob that counts how often it is really read, or fails. */
class WatchedBlob extends Blob {
  loads: [number, number][] = []
  failure: Error | undefined

  override slice(start = 0, end = this.size, type?: string): Blob {
    const part = super.slice(start, end, type)
    part.arrayBuffer = async () => {
      this.loads.push([start, end])
      if (this.failure) throw this.failure
      return super.slice(start, end).arrayBuffer()
    }
    return part
  }
}

function watched(length: number): WatchedBlob {
  return new WatchedBlob([sampleBytes(length) as BlobPart])
}

describe('blobStorage', () => {
  it('is named after the file', () => {
    expect(blobStorage(new Blob([])).label).toBe('blob')
    expect(blobStorage(new File([], 'disk.qcow2')).label).toBe('disk.qcow2')
    expect(blobStorage(new File([], 'disk.qcow2'), { label: 'other' }).label).toBe('other')
  })

  it('answers small reads of one place from one load', async () => {
    const blob = watched(300_000)
    const storage = blobStorage(blob)
    for (let i = 0; i < 100; i++) await storage.read(70_000 + i * 8, new Uint8Array(8))
    expect(blob.loads).toEqual([[65536, 131072]])
    expect(storage.readSync?.(70_000, new Uint8Array(100))).toBe(true)
    expect(storage.readSync?.(0, new Uint8Array(100))).toBe(false)
  })

  it('loads a range that spans blocks at once, leaving out what it has', async () => {
    const blob = watched(400_000)
    const storage = blobStorage(blob)
    await storage.read(140_000, new Uint8Array(10))
    const into = new Uint8Array(300_000)
    await storage.read(1000, into)
    expect(into).toEqual(sampleBytes(400_000).subarray(1000, 301_000))
    expect(blob.loads).toEqual([
      [131072, 196608],
      [0, 131072],
      [196608, 327680],
    ])
  })

  it('asks once for what several wait for', async () => {
    const blob = watched(100_000)
    const storage = blobStorage(blob)
    await Promise.all(Array.from({ length: 20 }, () => storage.read(5, new Uint8Array(50))))
    expect(blob.loads).toEqual([[0, 65536]])
  })

  it('keeps blocks within the budget, the last used ones', async () => {
    const blob = watched(10 * 1024)
    const storage = blobStorage(blob, { blockSize: 1024, cacheBytes: 3 * 1024 })
    const touch = (block: number) => storage.read(block * 1024, new Uint8Array(1))
    for (const block of [0, 1, 2, 0, 3]) await touch(block)
    expect(blob.loads.length).toBe(4)
    expect([0, 1, 2, 3].map((block) => storage.readSync?.(block * 1024, new Uint8Array(1)))).toEqual([
      true,
      false,
      true,
      true,
    ])
  })

  it('does not let a long read push out what small ones need', async () => {
    const blob = watched(1024 * 1024)
    const storage = blobStorage(blob, { cacheBytes: 256 * 1024 })
    await storage.read(0, new Uint8Array(10))
    await storage.read(65536, new Uint8Array(1024 * 1024 - 65536))
    expect(storage.readSync?.(0, new Uint8Array(10))).toBe(true)
  })

  it('reports a file that cannot be read any more, and tries again later', async () => {
    const blob = watched(100_000)
    const storage = blobStorage(blob)
    blob.failure = new DOMException('changed on disk', 'NotReadableError')
    const error = await expectCode(() => storage.read(70_000, new Uint8Array(10)), 'IMG_IO')
    expect(error).toMatchObject({ source: 'blob', offset: 65536, cause: blob.failure })
    expect(error.hint).toContain('picked again')
    blob.failure = undefined
    expect(await readAll(storage)).toEqual(sampleBytes(100_000))
  })

  it('writes nothing more into an array whose read was given up', async () => {
    const blob = watched(400_000)
    const storage = blobStorage(blob)
    const controller = new AbortController()
    const into = new Uint8Array(300_000)
    const reading = storage.read(0, into, { signal: controller.signal })
    const reason = new Error('enough')
    controller.abort(reason)
    await expect(reading).rejects.toBe(reason)
    into.fill(0xee)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(into.every((byte) => byte === 0xee)).toBe(true)
  })

  it('ends what is under way when it is closed', async () => {
    const storage = blobStorage(watched(400_000))
    const reading = storage.read(0, new Uint8Array(300_000))
    await storage.close()
    await expect(reading).rejects.toMatchObject({ code: 'IMG_CLOSED' })
  })

  it('refuses sizes that cannot be', () => {
    expect(() => blobStorage(new Blob([]), { blockSize: 100 })).toThrow(RangeError)
    expect(() => blobStorage(new Blob([]), { blockSize: 1000.5 })).toThrow(RangeError)
    expect(() => blobStorage(new Blob([]), { cacheBytes: -1 })).toThrow(RangeError)
  })
})
