import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { preallocate, preallocateSync } from '../src/native/index.js'
import { tellsHoles } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const holes = tellsHoles(directory)
const path = join(directory, 'file')
const MiB = 1024 * 1024

async function withFile<T>(content: Uint8Array, use: (fd: number) => T | Promise<T>): Promise<Buffer> {
  writeFileSync(path, content)
  const fd = openSync(path, 'r+')
  try {
    await use(fd)
  } finally {
    closeSync(fd)
  }
  return readFileSync(path)
}

const ways = [
  { mode: 'falloc', native: true },
  { mode: 'falloc', native: false },
  { mode: 'full', native: true },
  { mode: 'full', native: false },
] as const

describe('preallocate', () => {
  for (const { mode, native } of ways) {
    it(`grows a file, ${mode}, ${native ? 'with' : 'without'} the binding`, async () => {
      const old = randomBytes(5000)
      const bytes = await withFile(old, async (fd) => {
        await preallocate(fd, 5000, 20 * MiB, mode, { native })
        if (holes) expect(fstatSync(fd).blocks * 512).toBeGreaterThanOrEqual(20 * MiB)
      })
      expect(bytes.equals(Buffer.concat([old, Buffer.alloc(20 * MiB)]))).toBe(true)
    })
  }

  for (const native of [true, false]) {
    it(`falloc fills holes and keeps what is there, ${native ? 'with' : 'without'} the binding`, async () => {
      const data = randomBytes(100_000)
      const bytes = await withFile(new Uint8Array(0), async (fd) => {
        ftruncateSync(fd, 3 * MiB)
        writeSync(fd, data, 0, data.length, MiB + 77)
        await preallocate(fd, 0, 3 * MiB + 10, 'falloc', { native })
        if (holes) expect(fstatSync(fd).blocks * 512).toBeGreaterThanOrEqual(3 * MiB)
      })
      const expected = Buffer.alloc(3 * MiB + 10)
      data.copy(expected, MiB + 77)
      expect(bytes.equals(expected)).toBe(true)
    })
  }

  it('tells its progress, to the end', async () => {
    const seen: number[] = []
    await withFile(new Uint8Array(0), (fd) =>
      preallocate(fd, 0, 40 * MiB, 'full', { onProgress: (done) => seen.push(done) }),
    )
    expect(seen).toEqual([16 * MiB, 32 * MiB, 40 * MiB])
  })

  it('leaves the old size behind when aborted', async () => {
    const abort = new AbortController()
    const bytes = await withFile(Buffer.from('keep'), async (fd) => {
      const job = preallocate(fd, 4, 64 * MiB, 'full', {
        signal: abort.signal,
        onProgress: () => abort.abort(),
      })
      await expect(job).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }))
    })
    expect(bytes.toString()).toBe('keep')
  })

  it('leaves the old size behind when the callback throws', async () => {
    const stop = (): never => {
      throw new Error('enough')
    }
    const bytes = await withFile(Buffer.from('keep'), (fd) => {
      expect(() => preallocateSync(fd, 4, 64 * MiB, 'full', { onProgress: stop })).toThrow('enough')
    })
    expect(bytes.toString()).toBe('keep')
  })

  it('reports a size that no file can have', async () => {
    const bytes = await withFile(Buffer.from('keep'), (fd) => {
      // 8 PiB: past what ext4, XFS and btrfs allow a file, or past the free space.
      expect(() => preallocateSync(fd, 2 ** 53 - 4096, 2048, 'full')).toThrow(/EFBIG|EINVAL|ENOSPC/)
    })
    expect(bytes.toString()).toBe('keep')
  })
})
