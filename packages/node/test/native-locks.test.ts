import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { ImageLockError, type LockMode, type LockOptions, lockImage } from '../src/native/index.js'
import { nativeHost } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'
import { hasTool, holdWithQemuIo, holdWithQemuNbd, must, run } from './support/tools.js'

const directory = temporaryDirectory()
const open: number[] = []

afterEach(() => {
  for (const fd of open.splice(0)) closeSync(fd)
})

/** Opens and locks as another program would; the lock goes when the test ends. */
function lock(path: string, mode: LockMode, options?: LockOptions): ReturnType<typeof lockImage> {
  const fd = openSync(path, mode === 'read' ? 'r' : 'r+')
  open.push(fd)
  return lockImage(fd, mode, options)
}

/** The message of the conflict, or undefined without one. */
function conflict(path: string, mode: LockMode, options?: LockOptions): string | undefined {
  try {
    lock(path, mode, options).unlock()
    return undefined
  } catch (error) {
    if (!(error instanceof ImageLockError)) throw error
    return error.message
  }
}

function fresh(name: string): string {
  const path = join(directory, name)
  closeSync(openSync(path, 'w'))
  return path
}

describe.skipIf(!nativeHost)('locks between two openings (skipped without the binding)', () => {
  const free = undefined
  const writeHeld = 'failed to get shared "write" lock'
  const writeDenied = 'failed to get "write" lock'

  it.each([
    ['read', 'read', free],
    ['read', 'write', writeDenied],
    ['read', 'replace', writeDenied],
    ['write', 'read', writeHeld],
    ['write', 'write', writeDenied],
    ['write', 'replace', writeDenied],
  ] as const)('%s, then %s', (first, second, expected) => {
    const path = fresh('two')
    const held = lock(path, first)
    expect(held.held).toBe(true)
    expect(conflict(path, second)).toBe(expected)
    held.unlock()
    held.unlock()
    expect(conflict(path, second)).toBeUndefined()
  })

  it('shareAll reads beside a writer', () => {
    const path = fresh('shared')
    lock(path, 'write')
    expect(conflict(path, 'read', { shareAll: true })).toBeUndefined()
  })

  it('a conflict names the permission and leaves no lock behind', () => {
    const path = fresh('named')
    const writer = lock(path, 'write')
    const reader = openSync(path, 'r')
    open.push(reader)
    expect(() => lockImage(reader, 'read')).toThrow(
      expect.objectContaining({ code: 'EAGAIN', permission: 'write', shared: true }),
    )
    writer.unlock()
    expect(conflict(path, 'write')).toBeUndefined()
  })

  it('go with the descriptor', () => {
    const path = fresh('closed')
    const fd = openSync(path, 'r+')
    lockImage(fd, 'write')
    closeSync(fd)
    expect(conflict(path, 'write')).toBeUndefined()
  })

  it('reports a bad descriptor', () => {
    expect(() => lockImage(1_000_000, 'read')).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }),
    )
  })
})

describe('without locks', () => {
  it('says that nothing is held', () => {
    const held = lock(fresh('none'), 'write', { native: false })
    expect(held).toMatchObject({
      held: false,
      reason: expect.stringContaining('no open file description locks'),
    })
    held.unlock()
  })

  it('refuses to share what is written', () => {
    expect(() => lock(fresh('none'), 'write', { shareAll: true })).toThrow(TypeError)
  })
})

const qemu = nativeHost && hasTool('qemu-img') && hasTool('qemu-io')

describe.skipIf(!qemu)('beside QEMU (skipped where qemu-img, qemu-io or the binding is missing)', () => {
  const image = (format: string): string => {
    const path = join(directory, `image.${format}`)
    must('qemu-img', 'create', '-q', '-f', format, path, '1M')
    return path
  }

  it.each(['raw', 'qcow2'])('a %s image that qemu-io has open for writing is refused', async (format) => {
    const path = image(format)
    const release = await holdWithQemuIo('-f', format, path)
    try {
      expect(conflict(path, 'read')).toBe('failed to get shared "write" lock')
      // A raw image is shared with other writers by qemu-io; that it writes itself speaks against ours.
      expect(conflict(path, 'write')).toBe(
        format === 'raw' ? 'failed to get shared "write" lock' : 'failed to get "write" lock',
      )
      expect(conflict(path, 'read', { shareAll: true })).toBeUndefined()
    } finally {
      await release()
    }
    expect(conflict(path, 'write')).toBeUndefined()
  })

  it('a qcow2 image that qemu-io has open for reading can be read, not written', async () => {
    const path = image('qcow2')
    const release = await holdWithQemuIo('-r', '-f', 'qcow2', path)
    try {
      expect(conflict(path, 'read')).toBeUndefined()
      expect(conflict(path, 'write')).toBe('failed to get "write" lock')
      expect(conflict(path, 'replace')).toBe('failed to get "write" lock')
    } finally {
      await release()
    }
  })

  it.skipIf(!hasTool('qemu-nbd'))(
    'an image that qemu-nbd serves is refused (skipped without qemu-nbd)',
    async () => {
      const path = image('qcow2')
      const release = await holdWithQemuNbd(join(directory, 'nbd'), '-f', 'qcow2', path)
      try {
        expect(conflict(path, 'read')).toBe('failed to get shared "write" lock')
        expect(conflict(path, 'write')).toBe('failed to get "write" lock')
      } finally {
        await release()
      }
    },
  )

  /** What QEMU's programs say while the image is held; undefined where they work. */
  function complaints(path: string, format: string): Record<string, string | undefined> {
    const complaint = (name: string, ...args: string[]): string | undefined => {
      const { status, output } = run(name, ...args)
      return status === 0 ? undefined : (/Failed to get .* lock/.exec(output)?.[0] ?? output)
    }
    return {
      write: complaint('qemu-io', '-f', format, '-c', 'write 0 512', path),
      read: complaint('qemu-io', '-r', '-f', format, '-c', 'read 0 512', path),
      info: complaint('qemu-img', 'info', '-f', format, path),
      infoShared: complaint('qemu-img', 'info', '-U', '-f', format, path),
      create: complaint('qemu-img', 'create', '-q', '-f', format, path, '1M'),
    }
  }

  it('QEMU sees our write lock on a qcow2 image just as it sees its own', async () => {
    const path = image('qcow2')
    const release = await holdWithQemuIo('-f', 'qcow2', path)
    const own = complaints(path, 'qcow2')
    await release()
    lock(path, 'write')
    expect(complaints(path, 'qcow2')).toEqual(own)
    expect(own).toEqual({
      write: 'Failed to get "write" lock',
      read: 'Failed to get shared "write" lock',
      info: 'Failed to get shared "write" lock',
      infoShared: undefined,
      create: 'Failed to get "write" lock',
    })
  })

  it('QEMU sees our read lock on a qcow2 image just as it sees its own', async () => {
    const path = image('qcow2')
    const release = await holdWithQemuIo('-r', '-f', 'qcow2', path)
    const own = complaints(path, 'qcow2')
    await release()
    lock(path, 'read')
    expect(complaints(path, 'qcow2')).toEqual(own)
    expect(own).toMatchObject({ write: 'Failed to get "write" lock', read: undefined, info: undefined })
  })

  it('QEMU cannot write a raw image that we hold', () => {
    const path = image('raw')
    for (const mode of ['read', 'write'] as const) {
      const held = lock(path, mode)
      expect(complaints(path, 'raw')).toMatchObject({
        write: 'Failed to get "write" lock',
        create: 'Failed to get "write" lock',
      })
      held.unlock()
    }
    expect(complaints(path, 'raw')).toMatchObject({ write: undefined, create: undefined })
  })
})
