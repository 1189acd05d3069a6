import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, imgBytes, mustImg, runProgram, temporaryDirectory } from './support/cli.js'
import { makeDisk, sha256 } from './support/content.js'
import { hasQemu } from './support/qemu.js'

const cwd = temporaryDirectory()
const size = 1_500_160
const MiB = 1024 * 1024
let disk: Uint8Array

beforeAll(async () => {
  disk = makeDisk(join(cwd, 'disk.raw'), size)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd })
})

async function convert(...args: string[]): Promise<void> {
  expect(await img(['convert', ...args], { cwd })).toEqual({ code: 0, stdout: '', stderr: '' })
}

/** The image's content as img reads it, and clean and the same for qemu-img. */
async function expectContent(name: string, format: string, expected: Uint8Array = disk): Promise<void> {
  await convert('-f', format, '-O', 'raw', name, `${name}.content`)
  expect(sha256(join(cwd, `${name}.content`))).toBe(sha256(expected))
  if (!hasQemu) return
  if (format !== 'raw') {
    const check = await runProgram('qemu-img', ['check', '-f', format, name], { cwd })
    expect(check.code, check.stdout + check.stderr).toBe(0)
  }
  const args = ['compare', '-f', format, '-F', 'raw', name, `${name}.content`]
  expect(await runProgram('qemu-img', args, { cwd })).toMatchObject({
    code: 0,
    stdout: 'Images are identical.\n',
  })
}

describe('convert', () => {
  it.each([
    ['defaults', []],
    ['compression', ['-c']],
    ['zstd', ['-c', '-o', 'compression_type=zstd']],
    ['compat', ['-o', 'compat=0.10']],
    ['small clusters', ['-o', 'cluster_size=512']],
    ['large clusters', ['-o', 'cluster_size=2M']],
    ['refcounts of a bit', ['-o', 'refcount_bits=1']],
    ['lazy refcounts', ['-o', 'lazy_refcounts=on']],
    ['subclusters', ['-o', 'extended_l2=on']],
    ['metadata preallocated', ['-o', 'preallocation=metadata']],
    ['space preallocated', ['-o', 'preallocation=falloc']],
    ['zeros written', ['-S', '0']],
    ['other knobs', ['-m', '4', '-W', '-t', 'none', '-T', 'none', '-r', '1G', '-S', '64k']],
  ])('to qcow2 with %s', async (name, options) => {
    const target = `${name.replaceAll(' ', '-')}.qcow2`
    await convert('-f', 'raw', '-O', 'qcow2', ...options, 'disk.raw', target)
    await expectContent(target, 'qcow2')
  })

  it.each([
    ['qcow2', ['-o', 'cluster_size=2M']],
    ['vdi', []],
  ])('to large clusters of %s that hold little: the rest of each takes no room', async (format, options) => {
    const name = `scattered-${format}`
    const scattered = new Uint8Array(32 * MiB)
    for (let at = 0; at < 16; at++)
      scattered.fill(at + 1, at * 2 * MiB + at * 4096, at * 2 * MiB + at * 4096 + 4096)
    writeFileSync(join(cwd, `${name}.raw`), scattered)
    await convert('-f', 'raw', '-O', format, ...options, `${name}.raw`, name)
    await expectContent(name, format, scattered)
    await convert('-f', 'raw', '-O', format, ...options, '-S', '0', `${name}.raw`, `${name}.full`)
    await expectContent(`${name}.full`, format, scattered)
    const room = (file: string): number => statSync(join(cwd, file)).blocks * 512
    expect(room(`${name}.full`)).toBeGreaterThanOrEqual(32 * MiB)
    writeFileSync(join(cwd, 'hole'), '')
    truncateSync(join(cwd, 'hole'), 32 * MiB)
    // On a file system without holes, all take theirs.
    if (room('hole') < MiB) expect(room(name)).toBeLessThan(12 * MiB)
  })

  it.each([
    ['sparse', []],
    ['full', ['-S', '0']],
    ['preallocated', ['-o', 'preallocation=full']],
  ])('to raw, %s', async (name, options) => {
    await convert('-O', 'raw', ...options, 'disk.qcow2', `${name}.raw`)
    expect(sha256(join(cwd, `${name}.raw`))).toBe(sha256(disk))
  })

  it('joins several disks', async () => {
    const other = makeDisk(join(cwd, 'other.raw'), 70_000, 'other')
    await convert('-f', 'raw', '-O', 'qcow2', 'disk.raw', 'other.raw', 'joined.qcow2')
    const padded = Buffer.alloc(70_144)
    padded.set(other)
    await expectContent('joined.qcow2', 'qcow2', Buffer.concat([disk, padded]))
  })

  it('joins the parts of a file to the byte, as cat does', async () => {
    const parts = [100_001, 1, 777, 300_000].map((length, i) =>
      makeDisk(join(cwd, `part${i}.raw`), length, `part ${i}`),
    )
    const names = parts.map((_, i) => `part${i}.raw`)
    const whole = Buffer.concat(parts)
    await convert('-f', 'raw', '-O', 'raw', ...names, 'whole.raw')
    expect(sha256(join(cwd, 'whole.raw'))).toBe(sha256(whole))
    const { bytes } = await imgBytes(['convert', '-f', 'raw', '-O', 'raw', ...names, '-'], { cwd })
    expect(sha256(bytes)).toBe(sha256(whole))
    const filled = Buffer.alloc(Math.ceil(whole.length / 512) * 512)
    filled.set(whole)
    for (const format of ['qcow2', 'vmdk', 'vdi', 'qcow']) {
      await convert('-f', 'raw', '-O', format, ...names, `whole.${format}`)
      await convert('-f', format, '-O', 'raw', `whole.${format}`, 'back.raw')
      const back = readFileSync(join(cwd, 'back.raw'))
      expect(sha256(back.subarray(0, filled.length))).toBe(sha256(filled))
    }
  })

  it('replaces a target, through a symbolic link too, and leaves nothing else', async () => {
    writeFileSync(join(cwd, 'old.raw'), 'old')
    symlinkSync('old.raw', join(cwd, 'link.raw'))
    await convert('-O', 'raw', 'disk.qcow2', 'link.raw')
    expect(sha256(join(cwd, 'old.raw'))).toBe(sha256(disk))
    expect(readdirSync(cwd).filter((name) => name.endsWith('.part'))).toEqual([])
  })

  it('names the format of a new image by -O alone, raw without it', async () => {
    await convert('disk.qcow2', 'by-name.qcow2')
    expect(sha256(join(cwd, 'by-name.qcow2'))).toBe(sha256(disk))
  })
})

describe('convert -n', () => {
  it('writes over what is there, zeros too, and leaves what lies behind, as qemu-img', async () => {
    writeFileSync(join(cwd, 'target.raw'), Buffer.alloc(2_000_384, 'x'))
    const { ino } = statSync(join(cwd, 'target.raw'))
    await convert('-n', '-O', 'raw', 'disk.qcow2', 'target.raw')
    const expected = Buffer.alloc(2_000_384, 'x')
    expected.set(disk)
    expect(sha256(join(cwd, 'target.raw'))).toBe(sha256(expected))
    expect(statSync(join(cwd, 'target.raw')).ino).toBe(ino)
  })

  it('leaves zeros out where the target is zero', async () => {
    writeFileSync(join(cwd, 'zero.raw'), Buffer.alloc(size, 'x'))
    await convert('-n', '--target-is-zero', '-O', 'raw', 'disk.qcow2', 'zero.raw')
    const bytes = readFileSync(join(cwd, 'zero.raw'))
    expect(bytes.every((byte, i) => byte === disk[i] || (disk[i] === 0 && byte === 'x'.charCodeAt(0)))).toBe(
      true,
    )
    expect(bytes.includes('x'.repeat(8192))).toBe(true)
  })
})

describe('convert onto a backing file', () => {
  it.skipIf(!hasQemu)('copies only what the own layer holds (skipped without qemu-io)', async () => {
    await mustImg(['create', '-f', 'qcow2', '-b', 'disk.raw', '-F', 'raw', 'overlay.qcow2'], { cwd })
    const writes = ['-c', 'write -P 7 65536 4096', '-c', 'write -z 262144 131072', 'overlay.qcow2']
    await runProgram('qemu-io', ['-f', 'qcow2', ...writes], { cwd })
    for (const options of [
      ['-B', 'disk.raw', '-F', 'raw'],
      ['-c', '-o', 'backing_file=disk.raw,backing_fmt=raw'],
    ]) {
      await convert('-f', 'qcow2', '-O', 'qcow2', ...options, 'overlay.qcow2', 'thin.qcow2')
      const args = ['compare', '-f', 'qcow2', '-F', 'qcow2', 'overlay.qcow2', 'thin.qcow2']
      expect((await runProgram('qemu-img', args, { cwd })).code).toBe(0)
      const map = JSON.parse(await mustImg(['map', '--output=json', 'thin.qcow2'], { cwd })) as {
        depth: number
        start: number
      }[]
      expect(map.filter(({ depth }) => depth === 0).map(({ start }) => start)).toEqual([65536, 262144])
    }
  })
})

describe('convert refuses', () => {
  const both = ['-f', 'raw', '-O', 'qcow2']
  it.each([
    [[], 'Must specify image file name'],
    [['disk.raw'], 'Must specify image file name'],
    [['-O', 'nosuch', 'disk.qcow2', 'x'], "Unknown file format 'nosuch'"],
    [[...both, '-o', 'foo=1', 'disk.raw', 'x'], "Invalid parameter 'foo'"],
    [
      [...both, '-o', 'cluster_size=3', 'disk.raw', 'x'],
      'x: error while converting qcow2: Cluster size must be a power of two between 512 and 2048k',
    ],
    [[...both, '-o', 'size=2M', 'disk.raw', 'x'], 'the size of the target is that of the source'],
    [
      [...both, '-c', '-o', 'preallocation=full', 'disk.raw', 'x'],
      'Compression and preallocation not supported at the same time',
    ],
    [['-f', 'raw', '-O', 'raw', '-c', 'disk.raw', 'x'], 'Compression not supported for this file format'],
    [
      [...both, '-S', '1', 'disk.raw', 'x'],
      'Invalid buffer size for sparse output specified. Valid sizes are',
    ],
    [[...both, '-m', '17', 'disk.raw', 'x'], 'Invalid number of coroutines.'],
    [[...both, '-t', 'foo', 'disk.raw', 'x'], 'Invalid cache option: foo'],
    [[...both, '-T', 'foo', 'disk.raw', 'x'], 'Invalid source cache option: foo'],
    [[...both, '--target-is-zero', 'disk.raw', 'x'], '--target-is-zero requires use of -n flag'],
    [[...both, '--target-image-opts', 'disk.raw', 'x'], '--target-image-opts requires use of -n flag'],
    [[...both, '-n', '-o', 'compat=v3', 'disk.raw', 'x'], '-o has no effect when skipping image creation'],
    [[...both, '-C', '-c', 'disk.raw', 'x'], 'Cannot enable copy offloading when -c is used'],
    [[...both, '-B', 'disk.raw', 'disk.raw', 'x'], 'Use of backing file requires explicit backing format'],
    [
      [...both, '-B', 'no', '-F', 'raw', 'disk.raw', 'x'],
      "Could not open 'x': Could not open backing file: Could not open 'no': No such file",
    ],
    [
      ['-O', 'raw', '-B', 'disk.raw', '-F', 'raw', 'disk.qcow2', 'x'],
      "Backing file not supported for file format 'raw'",
    ],
    [
      [...both, 'disk.raw', 'nodir/x'],
      "nodir/x: error while converting qcow2: Could not create 'nodir/x': No such file or directory",
    ],
    [
      [...both, 'disk.raw', 'n'.repeat(300)],
      `${'n'.repeat(300)}: error while converting qcow2: Could not create '${'n'.repeat(300)}': File name too long`,
    ],
    [
      [...both, 'n'.repeat(300), 'x'],
      `Could not open '${'n'.repeat(300)}': Could not open '${'n'.repeat(300)}': File name too long`,
    ],
    [['-f', 'raw', '-l', 'a', 'disk.raw', 'x'], 'Failed to load snapshot: '],
    [['-l', 'a', 'disk.qcow2', 'x'], "Failed to load snapshot: Can't find snapshot"],
    [['-l', 'snapshot.foo=a', 'disk.qcow2', 'x'], "Invalid parameter 'snapshot.foo'"],
    [[...both, '--bitmaps', 'disk.raw', 'x'], 'Source lacks bitmap support'],
    [[...both, '--bitmaps', 'disk.raw', 'disk.raw', 'x'], 'Copying bitmaps only possible with single source'],
    [[...both, '--object', 'secret,id=a', 'disk.raw', 'x'], "Either 'file' or 'data' must be provided"],
    [['-n', '-f', 'raw', '-O', 'raw', 'disk.raw', 'short.raw'], 'output file is smaller than input file'],
    [
      ['--progress', 'loud', 'disk.raw', 'x'],
      '--progress must be used with auto, json, plain, none as argument.',
    ],
  ])('%j', async (args, message) => {
    writeFileSync(join(cwd, 'short.raw'), Buffer.alloc(512, 's'))
    const { code, stdout, stderr } = await img(['convert', ...args], { cwd })
    expect(stderr.startsWith(`img: ${message}`), stderr).toBe(true)
    expect([code, stdout]).toEqual([1, ''])
    expect(existsSync(join(cwd, 'x'))).toBe(false)
    expect(readdirSync(cwd).filter((name) => name.endsWith('.part'))).toEqual([])
    expect(readFileSync(join(cwd, 'short.raw')).every((byte) => byte === 's'.charCodeAt(0))).toBe(true)
  })

  it('a target that is the source, by another name, or its backing file', async () => {
    symlinkSync('disk.raw', join(cwd, 'alias.raw'))
    await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'disk.raw', '-F', 'raw', 'top.qcow2'], { cwd })
    for (const args of [
      ['-f', 'raw', '-O', 'qcow2', 'disk.raw', 'alias.raw'],
      ['-f', 'qcow2', '-O', 'raw', 'top.qcow2', 'disk.raw'],
      ['-n', '-f', 'raw', '-O', 'raw', 'disk.raw', './disk.raw'],
    ]) {
      const { code, stderr } = await img(['convert', ...args], { cwd })
      expect(code).toBe(1)
      expect(stderr).toContain('cannot be the target too')
    }
    expect(sha256(join(cwd, 'disk.raw'))).toBe(sha256(disk))
  })

  it('what does not fit, and keeps the old target', async () => {
    writeFileSync(join(cwd, 'kept.raw'), 'kept')
    const command = `ulimit -f 100; exec "$0" "$1" convert -S 0 -f qcow2 -O raw disk.qcow2 kept.raw`
    const { imgFile } = await import('./support/cli.js')
    const { code, stderr } = await runProgram('bash', ['-c', command, process.execPath, imgFile], { cwd })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^img: .*(larger than|File too large)/)
    expect(readFileSync(join(cwd, 'kept.raw'), 'utf8')).toBe('kept')
    expect(readdirSync(cwd).filter((name) => name.endsWith('.part'))).toEqual([])
  })
})

describe('-o help', () => {
  it('lists the options of the format', async () => {
    const help = await mustImg(['convert', '-O', 'qcow2', '-o', 'help'])
    expect(help).toMatch(/^Supported qcow2 options:\n {2}backing_file=<str> {5}- File name of a base image\n/)
    expect(help).toContain('  size=<size>            - Virtual disk size\n')
    expect(await mustImg(['create', '-f', 'raw', '-o', '?'])).toMatch(/^Supported raw options:\n/)
  })
})
