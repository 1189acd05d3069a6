import { randomBytes } from 'node:crypto'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { ColdReads } from '../src/cold-reads.js'
import { openFileStorage } from '../src/index.js'
import { willNeed } from '../src/native/index.js'
import { nativeHost } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const content = randomBytes(1024 * 1024)
const path = join(directory, 'disk.raw')
writeFileSync(path, content)

afterEach(() => {
  vi.restoreAllMocks()
})

/** The clock shows that every read at once takes a millisecond. */
function slowDisk(): void {
  let now = 0
  vi.spyOn(performance, 'now').mockImplementation(() => now++)
}

describe('ColdReads', () => {
  it('expects nothing of reads out of the page cache', () => {
    const cold = new ColdReads()
    for (let i = 0; i < 100; i++) cold.took(0.002)
    expect(cold.expected).toBe(false)
  })

  it('has some reads announced after a slow one, and more where the next try is slow too', () => {
    const cold = new ColdReads()
    const announced = (): number => {
      let count = 0
      for (; cold.expected; count++) cold.announced(true)
      return count
    }
    cold.took(1)
    const first = announced()
    cold.took(1)
    expect(announced()).toBe(2 * first)
    cold.took(0.002)
    expect(cold.expected).toBe(false)
    cold.took(1)
    expect(announced()).toBe(first)
  })

  it('gives up where reads come one after the other, and tries again later', () => {
    const cold = new ColdReads()
    cold.took(1)
    let count = 0
    for (; cold.expected; count++) cold.announced(false)
    expect(count).toBeLessThan(5)
    for (count = 0; !cold.expected; count++) cold.took(1)
    expect(count).toBeGreaterThan(50)
  })
})

describe('short reads of a file that comes from a slow disk', () => {
  it('have the right bytes, many at a time and one by one', async () => {
    slowDisk()
    await using storage = await openFileStorage(path)
    const read = async (offset: number): Promise<boolean> => {
      const into = new Uint8Array(4096)
      if (!storage.readSync(offset, into)) await storage.read(offset, into)
      return Buffer.from(into).equals(content.subarray(offset, offset + 4096))
    }
    const offsets = Array.from({ length: 400 }, (_, i) => (i * 37 * 4096 + 512) % (content.length - 4096))
    expect((await Promise.all(offsets.map(read))).every(Boolean)).toBe(true)
    for (const offset of offsets) expect(await read(offset)).toBe(true)
  })

  it('are not done at once', async () => {
    slowDisk()
    await using storage = await openFileStorage(path)
    expect(storage.readSync(0, new Uint8Array(512))).toBe(true)
    const into = new Uint8Array(512).fill(0xee)
    expect(storage.readSync(0, into)).toBe(false)
    expect(into.every((byte) => byte === 0xee)).toBe(true)
    expect(storage.readSync(0, new Uint8Array(512 * 1024))).toBe(true)
  })

  it('fail as others do: past the end, in a file cut short, after closing', async () => {
    slowDisk()
    const short = join(directory, 'short.raw')
    writeFileSync(short, content.subarray(0, 8192))
    const storage = await openFileStorage(short)
    const into = new Uint8Array(4096)
    storage.readSync(0, into)
    expect(() => storage.readSync(4097, into)).toThrow(expect.objectContaining({ code: 'IMG_TRUNCATED' }))
    await expect(storage.read(4097, into)).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
    truncateSync(short, 4000)
    await expect(storage.read(0, into)).rejects.toMatchObject({ code: 'IMG_TRUNCATED', offset: 4000 })
    const pending = storage.read(0, new Uint8Array(100))
    await storage.close()
    await expect(storage.read(0, into)).rejects.toMatchObject({ code: 'IMG_CLOSED' })
    await expect(pending).resolves.toBeUndefined()
  })
})

it.skipIf(!nativeHost)('tells the host what will be read, and changes nothing', async () => {
  await using storage = await openFileStorage(path, { writable: true })
  const { openSync, closeSync } = await import('node:fs')
  const fd = openSync(path, 'r')
  expect(willNeed(fd, 4096, 4096)).toBe(true)
  closeSync(fd)
  expect(willNeed(fd, 4096, 4096)).toBe(false)
  expect(storage.size).toBe(content.length)
  expect(readFileSync(path).equals(content)).toBe(true)
})
