import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  fstatSync,
  linkSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { StorageExtent } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fileHandle, fileHandleOf, openFileStorage, openFileStorageSync } from '../src/index.js'
import { nativeHost, tellsHoles } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'
import { hasTool, run } from './support/tools.js'

const directory = temporaryDirectory()
const holes = tellsHoles(directory)
const root = process.getuid?.() === 0
let count = 0

function file(content: string | Uint8Array = ''): string {
  const path = join(directory, `file${count++}`)
  writeFileSync(path, content)
  return path
}

function failure(code: string, details: Record<string, unknown> = {}): unknown {
  return expect.objectContaining({ name: 'ImageError', code, ...details })
}

async function collect(extents: AsyncIterable<StorageExtent> | undefined): Promise<StorageExtent[]> {
  const all: StorageExtent[] = []
  for await (const extent of extents ?? []) all.push(extent)
  return all
}

describe('reading', () => {
  it.each([100, 200_000])('fills what it is given: %i bytes', async (length) => {
    const content = randomBytes(300_000)
    await using storage = await openFileStorage(file(content))
    const into = new Uint8Array(length)
    await storage.read(77, into)
    expect(Buffer.from(into).equals(content.subarray(77, 77 + length))).toBe(true)
    expect(storage.readSync(300_000 - length, into)).toBe(true)
    expect(Buffer.from(into).equals(content.subarray(300_000 - length))).toBe(true)
    expect(storage.size).toBe(300_000)
  })

  it.each([100, 200_000])('past the end is IMG_TRUNCATED: %i bytes', async (length) => {
    const path = file(Buffer.alloc(length + 10))
    await using storage = await openFileStorage(path)
    await expect(storage.read(11, new Uint8Array(length))).rejects.toEqual(
      failure('IMG_TRUNCATED', { offset: 11, source: path }),
    )
    expect(() => storage.readSync(11, new Uint8Array(length))).toThrow(failure('IMG_TRUNCATED') as Error)
    // The file became shorter after it was opened.
    truncateSync(path, 50)
    await expect(storage.read(0, new Uint8Array(length))).rejects.toEqual(
      failure('IMG_TRUNCATED', { offset: 50 }),
    )
  })

  it('has no member that writes', async () => {
    await using storage = await openFileStorage(file('x'))
    for (const name of [
      'write',
      'writeSync',
      'truncate',
      'writeZeroes',
      'discard',
      'flush',
      'preallocate',
    ] as const) {
      expect(storage[name], name).toBeUndefined()
    }
  })

  it('refuses offsets that are none', async () => {
    await using storage = await openFileStorage(file('x'))
    for (const offset of [-1, 0.5, Number.NaN, 2 ** 53]) {
      await expect(storage.read(offset, new Uint8Array(1))).rejects.toThrow(RangeError)
    }
  })
})

describe('writing', () => {
  const operation = fc.oneof(
    fc.record({
      kind: fc.constant('write' as const),
      offset: fc.nat(300_000),
      length: fc.nat(150_000),
      fill: fc.nat(255),
    }),
    fc.record({
      kind: fc.constant('zero' as const),
      offset: fc.nat(300_000),
      length: fc.nat(150_000),
      unmap: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('truncate' as const), size: fc.nat(400_000) }),
  )

  it.each([true, false])('does to a file what a model says, native %s', async (native) => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 8 }), async (operations) => {
        const path = join(directory, 'model')
        writeFileSync(path, '')
        await using storage = await openFileStorage(path, { writable: true, native })
        let model = Buffer.alloc(0)
        const reach = (size: number): void => {
          if (size > model.length) model = Buffer.concat([model, Buffer.alloc(size - model.length)])
        }
        for (const step of operations) {
          if (step.kind === 'truncate') {
            await storage.truncate?.(step.size)
            reach(step.size)
            model = model.subarray(0, step.size)
            continue
          }
          if (step.length > 0) reach(step.offset + step.length)
          const at = Math.min(step.offset, model.length)
          if (step.kind === 'write') {
            await storage.write?.(step.offset, Buffer.alloc(step.length, step.fill))
            model.fill(step.fill, at, at + step.length)
          } else {
            await storage.writeZeroes?.(step.offset, step.length, { unmap: step.unmap })
            model.fill(0, at, at + step.length)
          }
        }
        expect(storage.size).toBe(model.length)
        expect(readFileSync(path).equals(model)).toBe(true)
      }),
      { numRuns: 30 },
    )
  })

  it('writes at once', async () => {
    const path = file('abc')
    await using storage = await openFileStorage(path, { writable: true })
    expect(storage.writeSync?.(5, Buffer.from('xyz'))).toBe(true)
    expect(storage.size).toBe(8)
    expect(readFileSync(path, 'latin1')).toBe('abc\0\0xyz')
    await storage.flush?.()
  })

  it.skipIf(!holes)('discard makes holes and keeps the size (skipped where there are no holes)', async () => {
    const path = file(Buffer.alloc(1 << 20, 1))
    await using storage = await openFileStorage(path, { writable: true })
    const before = storage.hostSize()
    await storage.discard?.(0, 1 << 30)
    expect(storage.hostSize()).toBeLessThan(before)
    expect(storage.size).toBe(1 << 20)
  })

  it('discard may do nothing', async () => {
    const path = file('abc')
    await using storage = await openFileStorage(path, { writable: true, native: false })
    await storage.discard?.(0, 3)
    expect(readFileSync(path, 'latin1')).toBe('abc')
  })

  it.each(['falloc', 'full'] as const)('preallocates: %s', async (mode) => {
    await using storage = await openFileStorage(file('abc'), { writable: true })
    await storage.preallocate?.(3, 100_000, mode)
    expect(storage.size).toBe(100_003)
    if (holes) expect(storage.hostSize()).toBeGreaterThanOrEqual(100_000)
  })

  it('a file too large is IMG_NO_SPACE', async () => {
    await using storage = await openFileStorage(file(), { writable: true })
    await expect(storage.write?.(2 ** 53 - 8192, new Uint8Array(4096))).rejects.toEqual(
      failure('IMG_NO_SPACE'),
    )
  })
})

describe('extents', () => {
  it.skipIf(!holes)('are told (skipped where there are no holes)', async () => {
    const path = file(Buffer.alloc(65536, 1))
    truncateSync(path, 3 * 65536)
    await using storage = await openFileStorage(path)
    expect(await collect(storage.extents?.(0, storage.size))).toEqual([
      { offset: 0, length: 65536, data: true },
      { offset: 65536, length: 131072, data: false },
    ])
    await expect(collect(storage.extents?.(1, storage.size))).rejects.toThrow(RangeError)
  })

  it('are absent without the binding', async () => {
    await using storage = await openFileStorage(file('x'), { native: false })
    expect(storage.extents).toBeUndefined()
  })
})

describe('opening', () => {
  it('names what is wrong', async () => {
    const missing = join(directory, 'missing')
    await expect(openFileStorage(missing)).rejects.toEqual(failure('IMG_NOT_FOUND', { source: missing }))
    await expect(openFileStorage(join(file(), 'below'))).rejects.toEqual(failure('IMG_NOT_FOUND'))
    await expect(openFileStorage(directory)).rejects.toEqual(failure('IMG_UNSUPPORTED'))
    await expect(openFileStorage(directory, { writable: true })).rejects.toEqual(failure('IMG_UNSUPPORTED'))
    await expect(openFileStorage(file(), { create: true })).rejects.toEqual(failure('IMG_EXISTS'))
  })

  it.skipIf(root || process.platform === 'win32')('minds permissions (skipped for root)', async () => {
    const path = file('x')
    chmodSync(path, 0o444)
    await expect(openFileStorage(path, { writable: true })).rejects.toEqual(failure('IMG_PERMISSION'))
    chmodSync(path, 0)
    await expect(openFileStorage(path)).rejects.toEqual(failure('IMG_PERMISSION'))
  })

  it.skipIf(!hasTool('mkfifo'))('does not wait for a pipe (skipped without mkfifo)', async () => {
    const path = join(directory, 'fifo')
    run('mkfifo', path)
    await expect(openFileStorage(path)).rejects.toEqual(failure('IMG_UNSUPPORTED'))
    await expect(openFileStorage(path, { writable: true })).rejects.toEqual(failure('IMG_UNSUPPORTED'))
  })

  it.skipIf(process.platform === 'win32')('refuses a character device (skipped on Windows)', async () => {
    await expect(openFileStorage('/dev/zero')).rejects.toEqual(failure('IMG_UNSUPPORTED'))
  })

  it('makes a new file', async () => {
    const path = join(directory, 'new')
    await using storage = await openFileStorage(path, { create: true, mode: 0o600 })
    expect(storage.size).toBe(0)
    if (process.platform !== 'win32') expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('gives one identity to one file', async () => {
    const path = file('x')
    const other = join(directory, 'hard')
    linkSync(path, other)
    await using a = await openFileStorage(path)
    await using b = await openFileStorage(other)
    await using c = await openFileStorage(file('x'))
    expect(a.identity).toBe(b.identity)
    expect(a.identity).not.toBe(c.identity)
  })

  it.skipIf(!nativeHost)('locks (skipped without the binding)', async () => {
    const path = file('x')
    {
      await using reader = await openFileStorage(path)
      await using second = await openFileStorage(path)
      expect(reader.lock?.held && second.lock?.held).toBe(true)
      await expect(openFileStorage(path, { writable: true })).rejects.toEqual(
        failure('IMG_LOCKED', { source: path }),
      )
    }
    await using writer = await openFileStorage(path, { writable: true })
    await expect(openFileStorage(path)).rejects.toEqual(
      failure('IMG_LOCKED', { hint: expect.stringContaining('-U') }),
    )
    await using shared = await openFileStorage(path, { lock: 'shared' })
    await using free = await openFileStorage(path, { lock: 'none', writable: true })
    expect([writer.lock?.held, shared.lock?.held, free.lock]).toEqual([true, true, undefined])
  })

  it('says where locks are not to be had', async () => {
    await using storage = await openFileStorage(file(), { native: false })
    expect(storage.lock).toMatchObject({ held: false })
  })
})

describe('closing', () => {
  it('is idempotent, and afterwards all is IMG_CLOSED', async () => {
    const storage = await openFileStorage(file('abc'), { writable: true })
    await Promise.all([storage.close(), storage.close()])
    await storage.close()
    const calls = [
      () => storage.read(0, new Uint8Array(1)),
      () => storage.write?.(0, new Uint8Array(1)),
      () => storage.truncate?.(0),
      () => storage.writeZeroes?.(0, 1),
      () => storage.discard?.(0, 1),
      () => storage.flush?.(),
      ...(storage.extents ? [() => collect(storage.extents?.(0, 1))] : []),
      async () => storage.readSync(0, new Uint8Array(1)),
      async () => storage.hostSize(),
      async () => storage.slice(0, 1),
    ]
    for (const call of calls) await expect(call()).rejects.toEqual(failure('IMG_CLOSED'))
  })

  it('waits for what the thread pool does', async () => {
    const content = randomBytes(8 << 20)
    const storage = await openFileStorage(file(content))
    const { fd } = fileHandleOf(storage) ?? { fd: -1 }
    const into = new Uint8Array(content.length)
    const reading = storage.read(0, into)
    const closing = storage.close()
    await reading
    expect(content.equals(into)).toBe(true)
    await closing
    expect(() => fstatSync(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  })
})

describe('signals', () => {
  it('reject with their reason', async () => {
    await using storage = await openFileStorage(file('abc'), { writable: true })
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(storage.read(0, new Uint8Array(1), { signal })).rejects.toThrow('enough')
    await expect(storage.write?.(0, new Uint8Array(1), { signal })).rejects.toThrow('enough')
    await expect(storage.writeZeroes?.(0, 1, { signal })).rejects.toThrow('enough')
  })

  it('stop a preallocation, and the size is the old one', async () => {
    const path = file('abc')
    await using storage = await openFileStorage(path, { writable: true })
    const abort = new AbortController()
    const job = storage.preallocate?.(3, 256 << 20, 'full', { signal: abort.signal })
    abort.abort()
    await expect(job).rejects.toEqual(expect.objectContaining({ name: 'AbortError' }))
    expect(statSync(path).size).toBe(3)
  })
})

describe('slices', () => {
  it('read and tell the descriptor, with the base added', async () => {
    const path = file('0123456789')
    const storage = openFileStorageSync(path)
    const slice = storage.slice(2, 6).slice(1)
    const into = new Uint8Array(5)
    await slice.read(0, into)
    expect(Buffer.from(into).toString()).toBe('34567')
    expect(fileHandleOf(storage)).toMatchObject({ base: 0, path, writable: false, regular: true })
    expect(fileHandleOf(slice)).toMatchObject({ base: 3, path })
    expect(fileHandle).toBe(Symbol.for('@img/node:fd'))
    await storage.close()
    expect(fileHandleOf(slice)).toBeUndefined()
  })

  it('of what is no file tell none', () => {
    expect(fileHandleOf({} as never)).toBeUndefined()
  })
})

describe('path', () => {
  it.skipIf(process.platform === 'win32')('has a directory free of links (skipped on Windows)', async () => {
    mkdirSync(join(directory, 'real'))
    symlinkSync('real', join(directory, 'link'))
    writeFileSync(join(directory, 'real', 'disk'), 'x')
    await using storage = await openFileStorage(join(directory, 'link', 'disk'))
    expect(storage.path).toBe(join(directory, 'real', 'disk'))
    expect(storage.label).toBe(join(directory, 'link', 'disk'))
  })
})
