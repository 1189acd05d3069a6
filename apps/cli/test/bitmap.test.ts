import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { canEncrypt, canWriteBitmaps } from './support/capabilities.js'
import { img, mustImg, runProgram, temporaryDirectory } from './support/cli.js'
import { makeDisk, sha256 } from './support/content.js'
import { hasQemu } from './support/qemu.js'

interface Dirty {
  readonly granularity: number
  readonly ranges: readonly { readonly offset: number; readonly length: number }[]
}

describe.skipIf(!canWriteBitmaps())('bitmaps (skipped without a plugin that changes them)', () => {
  const cwd = temporaryDirectory()
  const dirty = async (file: string, name: string): Promise<Dirty> =>
    JSON.parse(await mustImg(['bitmap', '--dirty', '--output=json', file, name], { cwd }))

  it('make an incremental backup', async () => {
    makeDisk(join(cwd, 'disk.raw'), 4 << 20, 'one')
    await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd })
    await mustImg(['convert', '-O', 'qcow2', 'disk.qcow2', 'monday.qcow2'], { cwd })
    await mustImg(['bitmap', '--add', 'disk.qcow2', 'b'], { cwd })
    expect((await dirty('disk.qcow2', 'b')).ranges).toEqual([])
    await mustImg(['bench', '-w', '-c', '3', '-o', '1M', '-s', '64k', '-S', '128k', 'disk.qcow2'], { cwd })
    const found = await dirty('disk.qcow2', 'b')
    expect(found.granularity).toBe(65536)
    expect(found.ranges).toEqual([0, 1, 2].map((i) => ({ offset: (1 << 20) + i * 131072, length: 65536 })))
    expect(await mustImg(['bitmap', '--dirty', 'disk.qcow2', 'b'], { cwd })).toMatch(
      /^Offset {10}Length\n0x100000 {8}0x10000\n/,
    )
    const args = ['--backing', 'monday.qcow2', '--backing-format', 'qcow2', 'disk.qcow2', 'b']
    await mustImg(['bitmap', '--export', 'tuesday.qcow2', ...args], { cwd })
    expect((await img(['compare', 'disk.qcow2', 'tuesday.qcow2'], { cwd })).code).toBe(0)
    const alone = JSON.parse(await mustImg(['map', '--output=json', 'tuesday.qcow2'], { cwd }))
    const own = (alone as { depth: number; length: number }[]).filter(({ depth }) => depth === 0)
    expect(own.reduce((sum, { length }) => sum + length, 0)).toBe(3 * 65536)
  })

  it('are copied by convert, and merged from another image', async () => {
    await mustImg(['convert', '--bitmaps', '-O', 'qcow2', 'disk.qcow2', 'copy.qcow2'], { cwd })
    expect(await dirty('copy.qcow2', 'b')).toEqual(await dirty('disk.qcow2', 'b'))
    await mustImg(['create', '-q', '-f', 'qcow2', 'empty.qcow2', '4M'], { cwd })
    await mustImg(
      ['bitmap', '--add', '--merge', 'b', '-b', 'disk.qcow2', '-F', 'qcow2', 'empty.qcow2', 'm'],
      {
        cwd,
      },
    )
    expect((await dirty('empty.qcow2', 'm')).ranges).toEqual((await dirty('disk.qcow2', 'b')).ranges)
    await mustImg(['bitmap', '--clear', '--disable', 'empty.qcow2', 'm'], { cwd })
    expect((await dirty('empty.qcow2', 'm')).ranges).toEqual([])
    if (!hasQemu) return
    expect((await runProgram('qemu-img', ['check', '-q', 'copy.qcow2'], { cwd })).code).toBe(0)
  })

  it.each([
    [['--dirty', 'disk.qcow2', 'none'], "Dirty bitmap 'none' not found"],
    [['--dirty', '--add', 'disk.qcow2', 'b'], 'cannot be used together'],
    [['--export', 'x.qcow2', '--backing', 'monday.qcow2', 'disk.qcow2', 'b'], 'without backing format'],
    [['--export', 'x', '-O', 'nosuch', 'disk.qcow2', 'b'], "Unknown file format 'nosuch'"],
  ])('bitmap %j is refused', async (args, message) => {
    const { code, stderr } = await img(['bitmap', ...args], { cwd })
    expect(code).toBe(1)
    expect(stderr).toContain(message)
    expect(existsSync(join(cwd, 'x')) || existsSync(join(cwd, 'x.qcow2'))).toBe(false)
  })
})

describe.skipIf(!canEncrypt())('encryption (skipped without a plugin that has it)', () => {
  const cwd = temporaryDirectory()
  const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'

  it('converts in and out, with the passphrase from a file, and is opened by QEMU', async () => {
    writeFileSync(join(cwd, 'pass'), 'open sesame')
    makeDisk(join(cwd, 'disk.raw'), 2 << 20, 'secret')
    const object = ['--object', 'secret,id=s,file=pass']
    const into = ['convert', ...object, '-f', 'raw', '-O', 'qcow2', '-o', options, 'disk.raw', 'luks.qcow2']
    await mustImg(into, { cwd })
    const out = ['convert', '--passphrase-file', 'pass', '-O', 'raw', 'luks.qcow2', 'back.raw']
    await mustImg(out, { cwd })
    expect(sha256(join(cwd, 'back.raw'))).toBe(sha256(join(cwd, 'disk.raw')))
    const named = 'driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s'
    expect((await img(['map', '--output=json', ...object, '--image-opts', named], { cwd })).code).toBe(0)
    if (!hasQemu) return
    const args = ['compare', ...object, '--image-opts', named, 'driver=raw,file.filename=disk.raw']
    expect((await runProgram('qemu-img', args, { cwd })).code).toBe(0)
  })

  it.each([
    [{}, "Parameter 'encrypt.key-secret' is required for cipher"],
    [{ IMG_PASSPHRASE: 'wrong' }, 'Invalid password, cannot unlock any keyslot'],
  ] as const)('refuses %j', async (env, message) => {
    const { code, stderr } = await img(['map', 'luks.qcow2'], { cwd, env })
    expect(code).toBe(1)
    expect(stderr).toContain(`img: Could not open 'luks.qcow2': ${message}\n`)
  })

  it('lists snapshots and tells what it is without the passphrase', async () => {
    expect((await img(['info', 'luks.qcow2'], { cwd })).stdout).toContain('encrypted: yes')
    expect((await img(['snapshot', '-l', 'luks.qcow2'], { cwd })).code).toBe(0)
  })
})
