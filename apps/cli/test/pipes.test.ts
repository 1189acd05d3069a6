import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  img,
  imgBytes,
  imgFile,
  mustImg,
  type Outcome,
  runProgram,
  temporaryDirectory,
} from './support/cli.js'
import { makeDisk, sha256 } from './support/content.js'
import { hasQemu } from './support/qemu.js'

const cwd = temporaryDirectory()
const canLoop =
  process.platform === 'linux' && process.geteuid?.() === 0 && spawnSync('losetup', ['--find']).status === 0
let disk: Uint8Array

beforeAll(async () => {
  disk = makeDisk(join(cwd, 'disk.raw'), 900_096)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd })
})

async function expectImage(name: string): Promise<void> {
  await mustImg(['convert', '-f', 'qcow2', '-O', 'raw', name, `${name}.raw`], { cwd })
  expect(sha256(join(cwd, `${name}.raw`))).toBe(sha256(disk))
  if (!hasQemu) return
  expect((await runProgram('qemu-img', ['check', '-f', 'qcow2', name], { cwd })).code).toBe(0)
  const args = ['compare', '-f', 'qcow2', '-F', 'raw', name, 'disk.raw']
  expect((await runProgram('qemu-img', args, { cwd })).code).toBe(0)
}

describe('standard output', () => {
  it('raw', async () => {
    const { code, bytes, stderr } = await imgBytes(['convert', 'disk.qcow2', '-O', 'raw', '-'], { cwd })
    expect([code, stderr]).toEqual([0, ''])
    expect(sha256(bytes)).toBe(sha256(disk))
  })

  it.each([[[]], [['-c']], [['-o', 'cluster_size=4k,compat=0.10']]])('qcow2 %j', async (options) => {
    const { code, bytes, stderr } = await imgBytes(
      ['convert', '-f', 'raw', 'disk.raw', ...options, '-O', 'qcow2', '-'],
      { cwd },
    )
    expect([code, stderr]).toEqual([0, ''])
    writeFileSync(join(cwd, 'out.qcow2'), bytes)
    await expectImage('out.qcow2')
  })

  it('to a file', async () => {
    const command = '"$0" "$1" convert -f raw disk.raw -O qcow2 - > redirected.qcow2'
    expect((await runProgram('sh', ['-c', command, process.execPath, imgFile], { cwd })).code).toBe(0)
    await expectImage('redirected.qcow2')
  })

  it('ends without a word where the reader has gone', async () => {
    await mustImg(['create', '-q', '-f', 'raw', 'large.raw', '64M'], { cwd })
    const command = 'set -o pipefail; "$0" "$1" convert -f raw large.raw -O raw - | head -c 1000 | wc -c'
    const { code, stdout, stderr } = await runProgram('bash', ['-c', command, process.execPath, imgFile], {
      cwd,
    })
    expect([code, stdout.trim(), stderr]).toEqual([141, '1000', ''])
  })

  it('text too', async () => {
    const command = 'set -o pipefail; "$0" "$1" --help | true'
    const { stderr } = await runProgram('bash', ['-c', command, process.execPath, imgFile], { cwd })
    expect(stderr).toBe('')
  })
})

describe('standard input', () => {
  it.each([[[]], [['-c']]])('raw to qcow2 %j', async (options) => {
    const args = ['convert', '-f', 'raw', '-', ...options, '-O', 'qcow2', 'in.qcow2']
    expect(await img(args, { cwd, input: disk })).toEqual({ code: 0, stdout: '', stderr: '' })
    await expectImage('in.qcow2')
  })

  it('raw to raw, of a size that is no multiple of sectors', async () => {
    const input = disk.subarray(0, 5000)
    await img(['convert', '-f', 'raw', '-', '-O', 'raw', 'in.raw'], { cwd, input })
    const expected = Buffer.alloc(5120)
    expected.set(input)
    expect(sha256(join(cwd, 'in.raw'))).toBe(sha256(expected))
  })

  it.each([
    [['-', 'x'], 'the format of standard input must be named with -f'],
    [['-f', 'qcow2', '-', 'x'], 'format qcow2 cannot be read from a pipe'],
    [['-f', 'raw', '-', 'disk.raw', 'x'], 'standard input cannot be one of several inputs'],
    [['-f', 'raw', '-l', 'a', '-', 'x'], 'a snapshot cannot be found in standard input'],
    [
      ['-f', 'raw', '-', '-O', 'qcow2', '-'],
      'from a pipe into a pipe only raw disks can be written, not qcow2',
    ],
    [['-f', 'raw', '-O', 'nosuch', '-', 'x'], "Unknown file format 'nosuch'"],
  ])('refuses %j', async (args, message) => {
    const { code, stdout, stderr } = await img(['convert', ...args], { cwd, input: disk })
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`img: ${message}`)
  })
})

describe.skipIf(process.platform === 'win32')('what is no pipe, as standard input or output', () => {
  const sh = (command: string): Promise<Outcome> =>
    runProgram('bash', ['-c', command, process.execPath, imgFile], { cwd })

  it('a file is read from where it stands', async () => {
    const { code, stderr } = await sh(
      '(dd bs=512 count=1 of=/dev/null 2>/dev/null; "$0" "$1" convert -f raw - -O raw rest.raw) < disk.raw',
    )
    expect([code, stderr]).toEqual([0, ''])
    expect(sha256(join(cwd, 'rest.raw'))).toBe(sha256(disk.subarray(512)))
  })

  it('a directory is refused, and no empty image made', async () => {
    const { code, stderr } = await sh('"$0" "$1" convert -f raw - -O raw none.raw < /')
    expect([code, stderr]).toEqual([1, 'img: cannot read standard input: is a directory\n'])
    expect(existsSync(join(cwd, 'none.raw'))).toBe(false)
  })

  it.skipIf(process.platform !== 'linux')(
    'closed, it is refused, and no empty image made; /dev/null is an input without bytes (skipped but on Linux)',
    async () => {
      const closed = await sh('"$0" "$1" convert -f raw - -O raw closed.raw <&-')
      expect([closed.code, closed.stderr.split('\n')[0]]).toEqual([
        1,
        'img: cannot read standard input: it is closed',
      ])
      expect(existsSync(join(cwd, 'closed.raw'))).toBe(false)
      const empty = await sh('"$0" "$1" convert -f raw - -O raw empty.raw < /dev/null')
      expect([empty.code, empty.stderr]).toEqual([0, ''])
      expect(statSync(join(cwd, 'empty.raw')).size).toBe(0)
    },
  )

  it.skipIf(!canLoop)(
    'a block device is read, not taken for nothing (skipped without loop devices)',
    async () => {
      writeFileSync(join(cwd, 'device.raw'), disk)
      const device = execFileSync('losetup', ['--find', '--show', join(cwd, 'device.raw')], {
        encoding: 'utf8',
      }).trim()
      try {
        await sh(`"$0" "$1" convert -f raw - -O qcow2 device.qcow2 < ${device}`)
        const { stdout } = await sh(`"$0" "$1" measure -f raw -O raw - < ${device}`)
        expect(stdout).toContain(`fully allocated size: ${Math.floor(disk.length / 512) * 512}`)
      } finally {
        execFileSync('losetup', ['--detach', device])
      }
      await expectImage('device.qcow2')
    },
  )

  it.skipIf(process.platform !== 'linux')(
    'a full disk behind standard output is told (skipped but on Linux)',
    async () => {
      const { code, stderr } = await sh('"$0" "$1" info disk.qcow2 > /dev/full')
      expect([code, stderr]).toEqual([1, 'img: cannot write to standard output: No space left on device\n'])
    },
  )
})

describe('from a pipe into a pipe', () => {
  it('raw disks pass, padded to whole sectors', async () => {
    const input = disk.subarray(0, 5000)
    const { code, bytes, stderr } = await imgBytes(['convert', '-f', 'raw', '-', '-'], { cwd, input })
    expect([code, stderr]).toEqual([0, ''])
    const expected = Buffer.alloc(5120)
    expected.set(input)
    expect(sha256(bytes)).toBe(sha256(expected))
  })

  it('what a compressed VMDK holds', async () => {
    const options = ['-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized']
    const { bytes: input } = await imgBytes(['convert', ...options, 'disk.raw', '-'], { cwd })
    const { code, bytes, stderr } = await imgBytes(['convert', '-f', 'vmdk', '-', '-O', 'raw', '-'], {
      cwd,
      input,
    })
    expect([code, stderr]).toEqual([0, ''])
    expect(sha256(bytes.subarray(0, disk.length))).toBe(sha256(disk))
    expect(bytes.subarray(disk.length).every((byte) => byte === 0)).toBe(true)
  })
})

describe.skipIf(process.platform === 'win32')('named pipes', () => {
  it('as source and target', async () => {
    await runProgram('mkfifo', ['pipe'], { cwd })
    const reading = runProgram('cat', ['pipe'], { cwd })
    await mustImg(['convert', '-f', 'qcow2', '-O', 'raw', 'disk.qcow2', 'pipe'], { cwd })
    expect((await reading).stdout.length).toBeGreaterThan(0)
    const writing = spawn('sh', ['-c', 'cat disk.raw > pipe'], { cwd })
    await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'pipe', 'piped.qcow2'], { cwd })
    writing.kill()
    await expectImage('piped.qcow2')
  })

  it('/dev/null takes an image', async () => {
    await mustImg(['convert', '-f', 'raw', '-O', 'raw', 'disk.raw', '/dev/null'], { cwd })
  })
})
