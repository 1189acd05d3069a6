import { randomBytes } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createTarget } from '../src/index.js'
import {
  blockDeviceSize,
  cloneFile,
  cloneRange,
  copyRange,
  discardRange,
  fileExtents,
  isBlockDevice,
  isReadOnlyDevice,
  logicalBlockSize,
  preallocateSync,
  punchHole,
  zeroRange,
} from '../src/native/index.js'
import { nativeHost } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'
import { hasTool, must, run } from './support/tools.js'

const root = process.getuid?.() === 0 && nativeHost
const MiB = 1024 * 1024
const directory = temporaryDirectory()
const undo: (() => void)[] = []
afterAll(() => {
  for (const step of undo.splice(0).reverse()) step()
})

/** Makes a loop device over a new file; undefined where that is not allowed here. */
function loopDevice(size: number, ...args: string[]): string | undefined {
  const file = join(directory, `disk${undo.length}`)
  writeFileSync(file, '')
  must('truncate', '-s', String(size), file)
  const { status, output } = run('losetup', '--find', '--show', ...args, file)
  if (status !== 0) return undefined
  const device = output.trim()
  undo.push(() => run('losetup', '--detach', device))
  return device
}

/** Mounts a file system on a new directory; undefined where that is not allowed here. */
function mounted(...args: string[]): string | undefined {
  const path = join(directory, `mount${undo.length}`)
  mkdirSync(path)
  if (run('mount', ...args, path).status !== 0) return undefined
  undo.push(() => run('umount', path))
  return path
}

const size = 8 * MiB + 512
const device = root && hasTool('losetup') ? loopDevice(size) : undefined

describe.skipIf(device === undefined)('a block device (skipped where no loop device can be made)', () => {
  const path = device as string

  function withDevice<T>(use: (fd: number) => T): T {
    const fd = openSync(path, 'r+')
    try {
      return use(fd)
    } finally {
      closeSync(fd)
    }
  }

  function read(fd: number, offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length)
    expect(readSync(fd, bytes, 0, length, offset)).toBe(length)
    return bytes
  }

  it('has a size, by each way of asking', () => {
    withDevice((fd) => {
      expect(isBlockDevice(fd)).toBe(true)
      expect(blockDeviceSize(fd)).toBe(size)
      expect(blockDeviceSize(fd, { native: false })).toBe(size)
      expect(logicalBlockSize(fd)).toBe(512)
      expect(logicalBlockSize(fd, { native: false })).toBe(512)
      expect(isReadOnlyDevice(fd)).toBe(false)
      expect(isReadOnlyDevice(fd, { native: false })).toBe(false)
    })
  })

  it('is all data', () => {
    withDevice((fd) => {
      expect([...fileExtents(fd, 0, size)]).toEqual([{ offset: 0, length: size, data: true }])
    })
  })

  it.each([
    { unmap: true, native: true },
    { unmap: false, native: true },
    { unmap: true, native: false },
  ])('is zeroed, $unmap $native', (how) => {
    withDevice((fd) => {
      const bytes = randomBytes(2 * MiB)
      writeSync(fd, bytes, 0, bytes.length, MiB)
      const method = zeroRange(fd, MiB + 100, MiB, how)
      expect(method).toBe(how.native ? (how.unmap ? 'unmapped' : 'zeroed') : 'written')
      bytes.fill(0, 100, 100 + MiB)
      expect(read(fd, MiB, 2 * MiB).equals(bytes)).toBe(true)
    })
  })

  it('is zeroed where a range has no whole block', () => {
    withDevice((fd) => {
      writeSync(fd, Buffer.alloc(2048, 1), 0, 2048, 0)
      zeroRange(fd, 300, 400)
      expect(read(fd, 0, 2048).equals(Buffer.alloc(2048, 1).fill(0, 300, 700))).toBe(true)
    })
  })

  it('is discarded in whole blocks only', () => {
    withDevice((fd) => {
      writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, 0)
      expect(discardRange(fd, 100, 2000)).toBe(true)
      const bytes = read(fd, 0, 4096)
      expect(bytes.subarray(0, 512).equals(Buffer.alloc(512, 1))).toBe(true)
      expect(bytes.subarray(2048).equals(Buffer.alloc(2048, 1))).toBe(true)
      expect(discardRange(fd, 100, 200)).toBe(false)
    })
  })

  it('may be read-only', () => {
    const readOnly = loopDevice(MiB, '--read-only') as string
    const fd = openSync(readOnly, 'r')
    try {
      expect(isReadOnlyDevice(fd)).toBe(true)
      expect(isReadOnlyDevice(fd, { native: false })).toBe(true)
      expect(() => punchHole(fd, 0, 4096)).toThrow()
    } finally {
      closeSync(fd)
    }
  })
})

function btrfs(): string | undefined {
  if (!root || !hasTool('mkfs.btrfs')) return undefined
  const disk = join(directory, 'btrfs')
  writeFileSync(disk, '')
  must('truncate', '-s', '256M', disk)
  must('mkfs.btrfs', '-q', disk)
  return mounted('-o', 'loop', '-t', 'btrfs', disk)
}
const reflinks = btrfs()

describe.skipIf(reflinks === undefined)('reflink (skipped where no btrfs can be mounted)', () => {
  const source = randomBytes(4 * MiB)
  const at = (name: string): string => join(reflinks as string, name)

  it('shares whole files and ranges, and copies what is not aligned', () => {
    writeFileSync(at('from'), source)
    const fdIn = openSync(at('from'), 'r')
    const whole = openSync(at('whole'), 'w+')
    const part = openSync(at('part'), 'w+')
    const other = openSync(join(directory, 'elsewhere'), 'w+')
    try {
      expect(cloneFile(fdIn, whole)).toBe(true)
      const bytes = Buffer.alloc(4 * MiB)
      readSync(whole, bytes, 0, bytes.length, 0)
      expect(bytes.equals(source)).toBe(true)

      expect(cloneRange(fdIn, MiB, part, 2 * MiB, MiB)).toBe(true)
      readSync(part, bytes, 0, 3 * MiB, 0)
      expect(bytes.subarray(0, 2 * MiB).equals(Buffer.alloc(2 * MiB))).toBe(true)
      expect(bytes.subarray(2 * MiB, 3 * MiB).equals(source.subarray(MiB, 2 * MiB))).toBe(true)

      expect(cloneRange(fdIn, 1, part, 0, 4096)).toBe(false)
      expect(cloneFile(fdIn, other)).toBe(false)
      expect(cloneRange(fdIn, 0, other, 0, MiB)).toBe(false)
    } finally {
      for (const fd of [fdIn, whole, part, other]) closeSync(fd)
    }
  })

  it('between file systems leaves the copy to the caller, or makes it whole', () => {
    writeFileSync(at('from'), source)
    const fdIn = openSync(at('from'), 'r')
    const fdOut = openSync(join(directory, 'elsewhere'), 'w+')
    try {
      const { copied, unsupported } = copyRange(fdIn, 0, fdOut, 0, source.length)
      expect(unsupported ? copied === 0 : copied === source.length).toBe(true)
    } finally {
      closeSync(fdIn)
      closeSync(fdOut)
    }
  })
})

const small = root ? mounted('-t', 'tmpfs', '-o', 'size=4m', 'tmpfs') : undefined

describe.skipIf(small === undefined)('a full file system (skipped where no tmpfs can be mounted)', () => {
  it('fails a target with IMG_NO_SPACE, which leaves nothing behind', async () => {
    const free = statfsSync(small as string).bfree
    const noSpace = expect.objectContaining({ name: 'ImageError', code: 'IMG_NO_SPACE' })
    for (const length of [8 * MiB, 64 * 1024]) {
      await using target = await createTarget(join(small as string, 'disk'))
      const bytes = new Uint8Array(length).fill(1)
      const filling = (async () => {
        for (let at = 0; at < 8 * MiB; at += length) await target.storage.write(at, bytes)
      })()
      await expect(filling).rejects.toEqual(noSpace)
      await target.abort()
      expect(readdirSync(small as string)).toEqual([])
      expect(statfsSync(small as string).bfree).toBe(free)
    }
  })

  it.each([
    ['falloc', true],
    ['falloc', false],
    ['full', true],
  ] as const)('preallocate %s, binding %s, gives all room back', (mode, native) => {
    const fd = openSync(join(small as string, 'file'), 'w+')
    try {
      const free = statfsSync(small as string).bfree
      expect(() => preallocateSync(fd, 0, 16 * MiB, mode, { native })).toThrow(
        expect.objectContaining({ code: 'ENOSPC' }),
      )
      expect(statfsSync(small as string).bfree).toBe(free)
    } finally {
      closeSync(fd)
    }
  })
})
