import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { BlockDevice, Extent, ImageWriter, Storage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { AioRing } from '../src/aio-ring.js'
import { fileHandle, nodeMover, openFileStorage } from '../src/index.js'
import { AioWrites, loadLibC } from '../src/native/index.js'
import { WriteBehind } from '../src/write-behind.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const built = existsSync(new URL('../dist/write-thread.js', import.meta.url))

type Behind = Pick<WriteBehind, 'take' | 'put' | 'give' | 'close'>

const ways: [string, boolean, (bufferBytes: number) => Promise<Behind>][] = [
  [
    'a thread of ours (skipped without a build)',
    built,
    async (bufferBytes) => {
      const behind = new WriteBehind(bufferBytes)
      while (!behind.ready) await setTimeout(1)
      return behind
    },
  ],
  [
    'the C library (skipped without the native binding, or where it is not glibc)',
    AioWrites.possible(),
    async (bufferBytes) => AioRing.open(bufferBytes) as AioRing,
  ],
]

async function emptyFile(name: string): Promise<Required<Storage>> {
  const path = join(directory, name)
  writeFileSync(path, '')
  return (await openFileStorage(path, { writable: true })) as Required<Storage>
}

describe.each(ways)('writing by %s', (_name, possible, started) => {
  it.runIf(possible)('writes what it was given, in many buffers and pieces', async () => {
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

  it.runIf(possible)('leaves what is no regular file to the caller', async () => {
    const target = await emptyFile('slice')
    await target.truncate(4096)
    const behind = await started(4096)
    expect(behind.put(target.slice(512), 0, behind.take())).toBe(false)
    behind.give()
    await behind.close()
    await target.close()
  })

  it.runIf(possible)('tells of a write that failed, and of no other', async () => {
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

  it.runIf(possible)('keeps apart what goes to two files', async () => {
    const bytes = randomBytes(2_000_000)
    const targets = [await emptyFile('first'), await emptyFile('second')]
    const behind = await started(50_000)
    for (let at = 0; at < bytes.length; at += 50_000) {
      const buffer = behind.take()
      buffer.set(bytes.subarray(at, at + 50_000))
      // The second file is written from its end to its start.
      behind.put(targets[0] as Storage, at, buffer.subarray(0, 30_000))
      behind.put(targets[1] as Storage, bytes.length - at - 50_000, buffer.subarray(30_000))
      behind.give()
    }
    await behind.close()
    const first = readFileSync(join(directory, 'first'))
    const second = readFileSync(join(directory, 'second'))
    for (let at = 0; at < bytes.length; at += 50_000) {
      expect(first.subarray(at, at + 30_000).equals(bytes.subarray(at, at + 30_000))).toBe(true)
      const back = bytes.length - at - 50_000
      expect(second.subarray(back, back + 20_000).equals(bytes.subarray(at + 30_000, at + 50_000))).toBe(true)
    }
    await Promise.all(targets.map((target) => target.close()))
  })
})

describe('writing by the C library', () => {
  it.runIf(existsSync('/dev/full') && AioWrites.possible())('tells that there is no room', async () => {
    const fd = openSync('/dev/full', 'r+')
    const target = {
      label: 'full',
      refreshSize: () => undefined,
      [fileHandle]: () => ({ fd, base: 0, path: '/dev/full', writable: true, regular: true }),
    } as unknown as Storage
    const ring = AioRing.open(4096) as AioRing
    ring.take()
    for (let at = 0; at < 40; at++) ring.put(target, at * 4096, ring.take())
    ring.give()
    await expect(ring.close()).rejects.toMatchObject({ code: 'IMG_NO_SPACE', source: 'full' })
    closeSync(fd)
  })

  it('is not there without the native binding', () => {
    expect(AioRing.open(4096, { native: false })).toBeUndefined()
    expect(AioWrites.possible({ native: false })).toBe(false)
    expect(loadLibC({ native: false })).toBeUndefined()
  })
})

describe('copying with a second thread that writes', () => {
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
