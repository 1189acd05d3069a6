import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import {
  createTarget,
  inspectTarget,
  openFileStorage,
  removePendingFiles,
  type Target,
} from '../src/index.js'
import { nativeHost } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'
import { hasTool, holdWithQemuIo, must, run } from './support/tools.js'

const base = temporaryDirectory()
const root = process.getuid?.() === 0
const posix = process.platform !== 'win32'

/** A new empty directory for each test. */
function place(): string {
  return mkdtempSync(join(base, 'target-'))
}

function failure(code: string): unknown {
  return expect.objectContaining({ name: 'ImageError', code })
}

async function fill(target: Target, text: string): Promise<void> {
  await target.storage.write(0, Buffer.from(text))
}

describe('a new file', () => {
  it('appears whole with commit, and not before', async () => {
    const directory = place()
    const path = join(directory, 'disk')
    const target = await createTarget(path)
    await fill(target, 'new')
    expect(target).toMatchObject({ path, atomic: true, storage: { label: path, size: 3 } })
    expect(existsSync(path)).toBe(false)
    await target.commit()
    await target.commit()
    await target.abort()
    expect(readFileSync(path, 'latin1')).toBe('new')
    expect(readdirSync(directory)).toEqual(['disk'])
    if (posix) expect(statSync(path).mode & 0o777).toBe(0o644 & ~process.umask())
  })

  it('leaves nothing with abort, nor where it is forgotten', async () => {
    const directory = place()
    const target = await createTarget(join(directory, 'disk'))
    await fill(target, 'new')
    await target.abort()
    await target.abort()
    await expect(target.commit()).rejects.toEqual(failure('IMG_CLOSED'))
    {
      await using other = await createTarget(join(directory, 'disk'))
      await fill(other, 'new')
    }
    expect(readdirSync(directory)).toEqual([])
  })

  it('has a temporary name that fits, however long its own is', async () => {
    const directory = place()
    const path = join(directory, 'ä'.repeat(127))
    const target = await createTarget(path)
    await target.commit()
    expect(existsSync(path)).toBe(true)
  })

  it('needs its directory', async () => {
    await expect(createTarget(join(place(), 'missing', 'disk'))).rejects.toEqual(failure('IMG_NOT_FOUND'))
    await expect(createTarget(base)).rejects.toEqual(failure('IMG_UNSUPPORTED'))
    await expect(createTarget(`${join(place(), 'none')}/`)).rejects.toEqual(failure('IMG_UNSUPPORTED'))
    await expect(createTarget('')).rejects.toEqual(failure('IMG_NOT_FOUND'))
  })

  it('made by two at once is one of both', async () => {
    const directory = place()
    const path = join(directory, 'disk')
    const [a, b] = await Promise.all([createTarget(path), createTarget(path)])
    await Promise.all([fill(a, 'aaaa'), fill(b, 'bbbb')])
    await Promise.all([a.commit(), b.commit()])
    expect(['aaaa', 'bbbb']).toContain(readFileSync(path, 'latin1'))
    expect(readdirSync(directory)).toEqual(['disk'])
  })

  it('that cannot be given its name is removed', async () => {
    const directory = place()
    const path = join(directory, 'disk')
    const target = await createTarget(path)
    mkdirSync(path)
    await expect(target.commit()).rejects.toEqual(expect.objectContaining({ name: 'ImageError' }))
    expect(readdirSync(directory)).toEqual(['disk'])
  })

  it('is closed at once while writes are under way', async () => {
    const directory = place()
    const target = await createTarget(join(directory, 'disk'))
    const bytes = Buffer.alloc(4 << 20, 7)
    const writing = target.storage.write(0, bytes)
    await target.commit()
    await writing
    expect(readFileSync(target.path).equals(bytes)).toBe(true)
  })
})

describe('an existing file', () => {
  it('is replaced whole, or kept', async () => {
    const path = join(place(), 'disk')
    writeFileSync(path, 'old')
    const given = await createTarget(path)
    await fill(given, 'half')
    expect(readFileSync(path, 'latin1')).toBe('old')
    await given.abort()
    expect(readFileSync(path, 'latin1')).toBe('old')
    const target = await createTarget(path)
    await fill(target, 'new')
    await target.commit()
    expect(readFileSync(path, 'latin1')).toBe('new')
  })

  it.skipIf(!posix)('hands on its mode (skipped on Windows)', async () => {
    const path = join(place(), 'disk')
    for (const mode of [0o600, 0o664, 0o640]) {
      writeFileSync(path, 'old')
      chmodSync(path, mode)
      const target = await createTarget(path)
      expect(statSync(target.storage.path).mode & 0o777).toBe(mode)
      await target.commit()
      expect(statSync(path).mode & 0o777).toBe(mode)
    }
  })

  it.skipIf(!root)('hands on its owner (skipped but for root)', async () => {
    const path = join(place(), 'disk')
    writeFileSync(path, 'old')
    chownSync(path, 1234, 4321)
    const target = await createTarget(path)
    await target.commit()
    expect(statSync(path)).toMatchObject({ uid: 1234, gid: 4321 })
  })

  it.skipIf(!posix)('keeps the links that lead to it (skipped on Windows)', async () => {
    const directory = place()
    mkdirSync(join(directory, 'store'))
    const real = join(directory, 'store', 'disk')
    const link = join(directory, 'link')
    writeFileSync(real, 'old')
    symlinkSync('store/disk', join(directory, 'first'))
    symlinkSync('first', link)
    const target = await createTarget(link)
    await fill(target, 'new')
    expect(target.path).toBe(real)
    await target.commit()
    expect(readlinkSync(link)).toBe('first')
    expect(readFileSync(real, 'latin1')).toBe('new')
    expect(readdirSync(directory).sort()).toEqual(['first', 'link', 'store'])
  })

  it.skipIf(!posix)('may be named by a link that leads to nothing yet (skipped on Windows)', async () => {
    const directory = place()
    symlinkSync('disk', join(directory, 'link'))
    const target = await createTarget(join(directory, 'link'))
    await target.commit()
    expect(readdirSync(directory).sort()).toEqual(['disk', 'link'])
    symlinkSync('loop', join(directory, 'loop'))
    await expect(createTarget(join(directory, 'loop'))).rejects.toEqual(failure('IMG_NOT_FOUND'))
  })

  it('lets other hard links keep the old content', async () => {
    const directory = place()
    const path = join(directory, 'disk')
    writeFileSync(path, 'old')
    linkSync(path, join(directory, 'other'))
    const target = await createTarget(path)
    await fill(target, 'new')
    await target.commit()
    expect(readFileSync(join(directory, 'other'), 'latin1')).toBe('old')
  })

  it.skipIf(!posix || root)('that must not be written is not replaced (skipped for root)', async () => {
    const path = join(place(), 'disk')
    writeFileSync(path, 'old')
    chmodSync(path, 0o444)
    await expect(createTarget(path)).rejects.toEqual(failure('IMG_PERMISSION'))
  })

  it.skipIf(!nativeHost)(
    'that is read or written elsewhere is refused (skipped without the binding)',
    async () => {
      const directory = place()
      const path = join(directory, 'disk')
      writeFileSync(path, 'old')
      {
        await using source = await openFileStorage(path)
        await expect(createTarget(path)).rejects.toEqual(failure('IMG_LOCKED'))
        expect(source.size).toBe(3)
      }
      await using first = await createTarget(path)
      await expect(createTarget(path)).rejects.toEqual(failure('IMG_LOCKED'))
      await first.abort()
      await using second = await createTarget(path)
      await second.commit()
      expect(readdirSync(directory)).toEqual(['disk'])
    },
  )

  it.skipIf(!nativeHost || !hasTool('qemu-io'))(
    'that a virtual machine has is refused (skipped without qemu-io)',
    async () => {
      const path = join(place(), 'disk.qcow2')
      must('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M')
      const release = await holdWithQemuIo(path)
      try {
        await expect(createTarget(path)).rejects.toEqual(failure('IMG_LOCKED'))
      } finally {
        await release()
      }
      await using target = await createTarget(path)
      // While it is made anew, QEMU must not begin to use the old content.
      expect(run('qemu-io', '-c', 'write 0 512', path).output).toContain('lock')
      await target.abort()
      expect(run('qemu-io', '-c', 'write 0 512', path).status).toBe(0)
    },
  )
})

describe('the end of the process', () => {
  it('removes what is not finished', async () => {
    const directory = place()
    const target = await createTarget(join(directory, 'disk'))
    const done = await createTarget(join(directory, 'done'))
    await done.commit()
    removePendingFiles()
    expect(readdirSync(directory)).toEqual(['done'])
    await target.abort()
  })

  const dist = new URL('../dist/index.js', import.meta.url)
  it.skipIf(!existsSync(dist))('does so by itself (skipped without a build)', () => {
    const directory = place()
    for (const end of ['process.exit(3)', 'throw new Error("fault")', '']) {
      const script = `
        import { createTarget } from ${JSON.stringify(pathToFileURL(dist.pathname).href)}
        const target = await createTarget(${JSON.stringify(join(directory, 'disk'))})
        await target.storage.write(0, new Uint8Array(100))
        ${end}`
      const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
        encoding: 'utf8',
      })
      expect(status, stderr).toBe(end === '' ? 0 : end.startsWith('throw') ? 1 : 3)
      expect(readdirSync(directory)).toEqual([])
    }
  })
})

describe('other kinds of targets', () => {
  it.skipIf(!posix)('are recognised (skipped on Windows)', () => {
    const directory = place()
    expect(inspectTarget('/dev/null').kind).toBe('stream')
    expect(inspectTarget(join(directory, 'new'))).toMatchObject({ kind: 'file', stats: undefined })
    symlinkSync('/dev/null', join(directory, 'null'))
    expect(inspectTarget(join(directory, 'null'))).toMatchObject({
      kind: 'stream',
      path: join(directory, 'null'),
    })
  })

  it.skipIf(!posix)('that have no random access are refused (skipped on Windows)', async () => {
    await expect(createTarget('/dev/null')).rejects.toEqual(failure('IMG_UNSUPPORTED'))
  })

  const loop = root && hasTool('losetup') ? loopDevice() : undefined
  it.skipIf(loop === undefined)(
    'block devices are written in place (skipped where no loop device can be made)',
    async () => {
      const { device, file, detach } = loop as NonNullable<typeof loop>
      try {
        const link = join(place(), 'device')
        symlinkSync(device, link)
        const target = await createTarget(link)
        expect(target).toMatchObject({
          atomic: false,
          path: device,
          storage: { size: 1 << 20, regular: false },
        })
        await fill(target, 'new')
        await target.storage.truncate(1000)
        expect(target.storage.size).toBe(1 << 20)
        await expect(target.storage.truncate((1 << 20) + 1)).rejects.toEqual(failure('IMG_NO_SPACE'))
        await expect(target.storage.write(1 << 20, new Uint8Array(1))).rejects.toEqual(
          failure('IMG_NO_SPACE'),
        )
        await expect(openFileStorage(device, { writable: true, lock: 'none' })).rejects.toEqual(
          failure('IMG_LOCKED'),
        )
        await target.storage.flush()
        await target.commit()
        expect(readFileSync(file).subarray(0, 3).toString()).toBe('new')
        await using source = await openFileStorage(device)
        expect(source).toMatchObject({ size: 1 << 20, regular: false })
        expect(source.preallocate).toBeUndefined()
      } finally {
        detach()
      }
    },
  )

  function loopDevice(): { device: string; file: string; detach: () => void } | undefined {
    const file = join(place(), 'disk')
    writeFileSync(file, Buffer.alloc(1 << 20))
    const { status, output } = run('losetup', '--find', '--show', file)
    const device = output.trim()
    return status === 0 ? { device, file, detach: () => run('losetup', '--detach', device) } : undefined
  }
})
