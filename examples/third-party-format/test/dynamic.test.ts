import { type Extent, memoryStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { content, copy, create, open, patchFooter, patchHeader, pattern } from './support/images.js'

const block = 2 << 20
/** A disk of two and a half blocks, in a file with room for them; where each goes is the test's to say. */
const size = 5 << 20
const first = 2048 // copy of the footer, header, one sector of table

async function disk(): Promise<Uint8Array> {
  return copy(await create(size, { force_size: true }))
}

/** A file with blocks: bitmap and data of each. */
function withBlocks(file: Uint8Array, entries: readonly number[], blocks: readonly Uint8Array[]): Uint8Array {
  const footer = file.slice(-512)
  const grown = new Uint8Array(first + blocks.length * (block + 512) + 512)
  grown.set(file.subarray(0, first))
  for (const [i, bytes] of blocks.entries()) grown.set(bytes, first + i * (block + 512))
  grown.set(footer, grown.length - 512)
  const view = new DataView(grown.buffer)
  for (const [i, entry] of entries.entries()) view.setUint32(1536 + i * 4, entry)
  return grown
}

function blockOf(bitmap: (sector: number) => boolean, seed: number): Uint8Array {
  const bytes = new Uint8Array(512 + block)
  for (let sector = 0; sector < block / 512; sector++) {
    if (bitmap(sector))
      bytes[Math.floor(sector / 8)] = (bytes[Math.floor(sector / 8)] as number) | (0x80 >> (sector % 8))
  }
  bytes.set(pattern(block, seed), 512)
  return bytes
}

async function extentsOf(file: Uint8Array): Promise<Extent[]> {
  const image = await open(file)
  const all: Extent[] = []
  for await (const extent of image.extents()) all.push(extent)
  return all
}

describe('reading a dynamic disk', () => {
  it('blocks in any order; sectors that the bitmap leaves out are zeros, whatever the block holds there', async () => {
    const held = (sector: number): boolean =>
      sector < 3 || (sector >= 100 && sector < 1001) || sector === 4095
    const file = withBlocks(
      await disk(),
      [(first + block + 512) / 512, 0xffff_ffff, first / 512],
      [blockOf(() => true, 3), blockOf(held, 1)],
    )
    const expected = new Uint8Array(size)
    const partial = pattern(block, 1)
    for (let sector = 0; sector < 4096; sector++) {
      if (!held(sector)) partial.fill(0, sector * 512, sector * 512 + 512)
    }
    expected.set(partial, 0)
    expected.set(pattern(block, 3).subarray(0, size - 2 * block), 2 * block)
    const image = await open(file)
    expect(Buffer.compare(await content(image), expected)).toBe(0)
    // Across all borders, unaligned.
    const part = new Uint8Array(block + 5000)
    await image.read(2100, part)
    expect(Buffer.compare(part, expected.subarray(2100, 2100 + part.length))).toBe(0)

    const start = first + block + 512 + 512
    expect(await extentsOf(file)).toMatchObject([
      { kind: 'data', offset: 0, length: 1536, hostOffset: start },
      { kind: 'unallocated', offset: 1536, length: 97 * 512, hostOffset: start + 1536 },
      { kind: 'data', offset: 51_200, length: 901 * 512, hostOffset: start + 51_200 },
      { kind: 'unallocated', offset: 1001 * 512, length: 3094 * 512 },
      { kind: 'data', offset: 4095 * 512, length: 512, hostOffset: start + 4095 * 512 },
      { kind: 'unallocated', offset: block, length: block },
      { kind: 'data', offset: 2 * block, length: size - 2 * block, hostOffset: first + 512 },
    ])
  })

  it('a storage that is only asynchronous gives the same', async () => {
    const file = withBlocks(await disk(), [first / 512], [blockOf((sector) => sector % 3 === 0, 2)])
    const inner = memoryStorage(file)
    const slow = {
      label: 'slow',
      size: inner.size,
      read: (offset: number, into: Uint8Array) =>
        new Promise<void>((done) => setImmediate(() => done(inner.read(offset, into)))),
      slice: () => slow,
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    }
    const image = await open(slow as never)
    const [all, part] = [new Uint8Array(size), new Uint8Array(70_000)]
    await Promise.all([image.read(0, all), image.read(333, part), image.read(block - 10, new Uint8Array(20))])
    expect(Buffer.compare(all, await content(await open(file)))).toBe(0)
    expect(Buffer.compare(part, all.subarray(333, 70_333))).toBe(0)
  })

  it('a file that is cut short gives what is there, then says so', async () => {
    const file = withBlocks(await disk(), [first / 512], [blockOf(() => true, 1)]).slice(
      0,
      first + 512 + 1_000_000,
    )
    const image = await open(file)
    const there = new Uint8Array(1_000_000)
    await image.read(0, there)
    expect(Buffer.compare(there, pattern(block, 1).subarray(0, 1_000_000))).toBe(0)
    await expect(image.read(999_999, new Uint8Array(2))).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
    await expect(open(file, { writable: true })).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
  })

  it.each([
    ['the copy of the footer', 0],
    ['the header', 2],
    ['the table', 3],
  ])('a block over %s is damage', async (_, entry) => {
    const file = withBlocks(await disk(), [0xffff_ffff, entry], [blockOf(() => true, 1)])
    const image = await open(file)
    await image.read(0, new Uint8Array(block))
    await expect(image.read(block, new Uint8Array(1))).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
      offset: 1540,
    })
    await expect(open(file, { writable: true })).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })

  it('two blocks in one place can be read, but not written', async () => {
    const file = withBlocks(
      await disk(),
      [first / 512, first / 512 + 8],
      [blockOf(() => true, 1), blockOf(() => true, 1)],
    )
    await content(await open(file))
    await expect(open(file, { writable: true })).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })
})

describe('a damaged header is refused', () => {
  it.each([
    ['its cookie', (view: DataView) => view.setUint8(0, 0x58), 'IMG_CORRUPT'],
    ['its version', (view: DataView) => view.setUint32(24, 0x2_0000), 'IMG_UNSUPPORTED'],
    ['a block size that is no power of two', (view: DataView) => view.setUint32(32, 3 << 20), 'IMG_CORRUPT'],
    ['a block size below a sector', (view: DataView) => view.setUint32(32, 256), 'IMG_CORRUPT'],
    ['a block size of nothing', (view: DataView) => view.setUint32(32, 0), 'IMG_CORRUPT'],
    ['a table too short for the disk', (view: DataView) => view.setUint32(28, 2), 'IMG_CORRUPT'],
    ['a table larger than the file', (view: DataView) => view.setUint32(28, 1_000_000), 'IMG_TRUNCATED'],
    ['a table larger than any', (view: DataView) => view.setUint32(28, 0x4000_0001), 'IMG_UNSUPPORTED'],
    ['a table past the end of the file', (view: DataView) => view.setUint32(16, 1), 'IMG_TRUNCATED'],
  ])('%s', async (_, change, code) => {
    const file = await disk()
    patchHeader(file, change)
    await expect(open(file)).rejects.toMatchObject({ code, name: 'ImageError' })
  })

  it('its checksum', async () => {
    const file = await disk()
    file[512 + 900] = 1
    await expect(open(file)).rejects.toMatchObject({ code: 'IMG_CORRUPT', offset: 512 + 36 })
  })

  it('its place', async () => {
    const file = await disk()
    for (const at of [0, file.length - 512]) patchFooter(file, at, (view) => view.setUint32(20, 0x1000_0000))
    await expect(open(file)).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
  })
})
