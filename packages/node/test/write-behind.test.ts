import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { BlockDevice, Extent, ImageWriter, Storage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { fileHandle, nodeMover, openFileStorage } from '../src/index.js'
import { WriteBehind } from '../src/write-behind.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const built = existsSync(new URL('../dist/write-thread.js', import.meta.url))

async function started(bufferBytes: number): Promise<WriteBehind> {
  const behind = new WriteBehind(bufferBytes)
  while (!behind.ready) await setTimeout(1)
  return behind
}

async function emptyFile(name: string): Promise<Required<Storage>> {
  const path = join(directory, name)
  writeFileSync(path, '')
  return (await openFileStorage(path, { writable: true })) as Required<Storage>
}

describe.skipIf(!built)('a thread that writes (skipped without a build)', () => {
  it('writes what it was given, in many buffers and pieces', async () => {
    const bytes = randomBytes(3_000_001)
    const target = await emptyFile('pieces')
    const behind = await started(65536)
    for (let at = 0; at < bytes.length; at += 65536) {
      const part = bytes.subarray(at, at + 65536)
      const buffer = behind.take().subarray(0, part.length)
      buffer.set(part)
      // More commands than the ring holds in all.
      for (let from = 0; from < part.length; from += 1000) {
        expect(behind.put(target, at + from, buffer.subarray(from, from + 1000))).toBe(true)
      }
      behind.give()
    }
    await behind.close()
    expect(target.size).toBe(bytes.length)
    expect(readFileSync(join(directory, 'pieces')).equals(bytes)).toBe(true)
    await target.close()
  })

  it('leaves what is no regular file to the caller', async () => {
    const target = await emptyFile('slice')
    await target.truncate(4096)
    const behind = await started(4096)
    expect(behind.put(target.slice(512), 0, behind.take())).toBe(false)
    behind.give()
    await behind.close()
    await target.close()
  })

  it('tells of a write that failed, and of no other', async () => {
    const path = join(directory, 'read-only')
    writeFileSync(path, 'old')
    const fd = openSync(path, 'r')
    const target = {
      label: path,
      refreshSize: () => undefined,
      [fileHandle]: () => ({ fd, base: 0, path, writable: true, regular: true }),
    } as unknown as Storage
    const behind = await started(4096)
    behind.put(target, 0, behind.take())
    behind.give()
    await expect(behind.close()).rejects.toMatchObject({ code: 'IMG_IO', source: path })
    closeSync(fd)
    expect(readFileSync(path, 'utf8')).toBe('old')
  })

  it.each([1, 65536])('copies many megabytes in units of %i bytes', async (clusterSize) => {
    const path = join(directory, 'source')
    const bytes = Buffer.alloc(96 * 1024 * 1024)
    for (let at = 0; at < bytes.length; at += 8 * 1024 * 1024) randomBytes(5_000_000).copy(bytes, at + 12_345)
    writeFileSync(path, bytes)
    const storage = await openFileStorage(path)
    const target = await emptyFile('copy')
    const writer: ImageWriter = {
      clusterSize,
      place: (hostOffset, length) => ({ storage: target, hostOffset, length }),
      finish: () => target.truncate(bytes.length),
    }
    async function* extents(): AsyncGenerator<Extent> {
      yield { kind: 'data', offset: 0, length: bytes.length, storage, hostOffset: 0, depth: 0 }
    }
    let seen = 0
    await nodeMover({
      source: storage as unknown as BlockDevice,
      extents: extents(),
      writer,
      sparse: 4096,
      advance: (length) => {
        seen += length
      },
    })
    await writer.finish()
    await target.close()
    await storage.close()
    expect(seen).toBe(bytes.length)
    expect(readFileSync(join(directory, 'copy')).equals(bytes)).toBe(true)
  })
})
