import { randomBytes } from 'node:crypto'
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BlockDevice, type Extent, type ImageWriter, memoryStorage, type Storage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { openFileStorage } from '../src/index.js'
import { createMover } from '../src/mover.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const unit = 65536
let count = 0

function path(): string {
  return join(directory, `file${count++}`)
}

/** Clusters: data, zeros, data only in the last byte, data only at the start, zeros, part of a cluster. */
const content = disk()

function disk(): Buffer {
  const bytes = Buffer.alloc(unit * 8 + 1536)
  randomBytes(unit * 2).copy(bytes, 0)
  bytes[unit * 4 - 1] = 7
  bytes[unit * 4] = 8
  randomBytes(unit).copy(bytes, unit * 5)
  bytes[unit * 8 + 1535] = 9
  return bytes
}

/** Packs clusters one after the other. */
function packer(target: Storage, clusterSize: number): ImageWriter & { readonly placed: [number, number][] } {
  const placed: [number, number][] = []
  let end = 0
  return {
    clusterSize,
    placed,
    place(offset, length) {
      const hostOffset = end
      end += length
      placed.push([offset, length])
      return { storage: target as Required<Storage>, hostOffset, length }
    },
    finish: () => Promise.resolve(),
  }
}

function move(source: Storage, extents: Extent[], writer: ImageWriter, sparse = 4096): Promise<void> {
  async function* all(): AsyncGenerator<Extent> {
    yield* extents
  }
  const device = source as unknown as BlockDevice
  return createMover(() => true)({ source: device, extents: all(), writer, sparse, advance: () => undefined })
}

function whole(storage: Storage, length = storage.size): Extent {
  return { kind: 'data', offset: 0, length, storage, hostOffset: 0, depth: 0 }
}

/** What was placed, put back where it belongs. */
function unpack(bytes: Uint8Array, placed: readonly [number, number][], size: number): Buffer {
  const all = Buffer.alloc(size)
  let at = 0
  for (const [offset, length] of placed) {
    all.set(bytes.subarray(at, at + length), offset)
    at += length
  }
  return all
}

describe('copying whole clusters from file to file', () => {
  it.each([unit, 512])(
    'keeps the data and leaves out the clusters of zeros (%i bytes)',
    async (clusterSize) => {
      const [from, to] = [path(), path()]
      writeFileSync(from, content)
      writeFileSync(to, '')
      await using source = await openFileStorage(from)
      await using target = await openFileStorage(to, { writable: true })
      const writer = packer(target, clusterSize)
      await move(source, [whole(source)], writer)
      const bytes = readFileSync(to)
      expect(target.size).toBe(bytes.length)
      expect(unpack(bytes, writer.placed, source.size).equals(content)).toBe(true)
      const total = writer.placed.reduce((sum, [, length]) => sum + length, 0)
      expect(total).toBe(clusterSize === unit ? unit * 5 + 1536 : unit * 3 + 512 * 3)
    },
  )

  it('leaves no room reserved behind the data', async () => {
    const [from, to] = [path(), path()]
    writeFileSync(from, randomBytes(unit * 80))
    writeFileSync(to, '')
    await using source = await openFileStorage(from)
    await using target = await openFileStorage(to, { writable: true })
    await move(source, [whole(source)], packer(target, unit))
    expect(readFileSync(to).equals(readFileSync(from))).toBe(true)
    expect(statSync(to).blocks * 512).toBeLessThan(unit * 82)
  })

  it('keeps the zeros where they are wanted', async () => {
    const [from, to] = [path(), path()]
    writeFileSync(from, content)
    writeFileSync(to, '')
    await using source = await openFileStorage(from)
    await using target = await openFileStorage(to, { writable: true })
    await move(source, [whole(source)], packer(target, unit), 0)
    expect(readFileSync(to).equals(content)).toBe(true)
  })

  it('copies from and to what is no file', async () => {
    const from = path()
    writeFileSync(from, content)
    await using source = await openFileStorage(from)
    const memory = memoryStorage()
    const first = packer(memory, unit)
    await move(source, [whole(source)], first)
    const bytes = new Uint8Array(memory.size)
    await memory.read(0, bytes)
    expect(unpack(bytes, first.placed, source.size).equals(content)).toBe(true)
  })

  it('copies from a slice, and says where a source has ended', async () => {
    const [from, to] = [path(), path()]
    writeFileSync(from, Buffer.concat([Buffer.alloc(1000, 1), content]))
    writeFileSync(to, '')
    await using source = await openFileStorage(from)
    await using target = await openFileStorage(to, { writable: true })
    const slice = source.slice(1000)
    const writer = packer(target, unit)
    await move(slice, [whole(slice)], writer)
    expect(unpack(readFileSync(to), writer.placed, slice.size).equals(content)).toBe(true)
    truncateSync(from, unit)
    await expect(move(slice, [whole(slice)], packer(target, unit))).rejects.toMatchObject({
      code: 'IMG_TRUNCATED',
    })
  })
})
