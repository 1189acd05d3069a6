import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const key = Buffer.alloc(65536, 'k')

/** A descriptor of one flat extent. */
function describeDisk(name: string, createType: string, extent: string): void {
  const ids = 'version=1\nCID=fffffffe\nparentCID=ffffffff'
  const text = `# Disk DescriptorFile\n${ids}\ncreateType="${createType}"\nRW 128 FLAT "${extent}" 0\n`
  writeFileSync(join(cwd, `images/${name}.vmdk`), text)
}

beforeAll(() => {
  for (const directory of ['images', 'secrets']) mkdirSync(join(cwd, directory))
  writeFileSync(join(cwd, 'secrets/key'), key)
  writeFileSync(join(cwd, 'images/inside flat ü.bin'), Buffer.alloc(65536, 'i'))
  symlinkSync('../secrets/key', join(cwd, 'images/link.bin'))
})

describe('extents of VMDK', () => {
  it('are opened beside the image, whatever their names', async () => {
    describeDisk('good', 'monolithicFlat', 'inside flat ü.bin')
    await mustImg(['convert', '-O', 'raw', 'images/good.vmdk', 'good.raw'], { cwd })
    expect(readFileSync(join(cwd, 'good.raw')).equals(Buffer.alloc(65536, 'i'))).toBe(true)
  })

  const outside: [name: string, createType: string, extent: string][] = [
    ['absolute', 'monolithicFlat', join(cwd, 'secrets/key')],
    ['dots', 'vmfs', '../secrets/key'],
    ['link', 'custom', 'link.bin'],
    ['device', 'fullDevice', '/dev/zero'],
    ['windows', 'partitionedDevice', '\\\\.\\PhysicalDrive0'],
    ['json', 'custom', 'json:secrets'],
  ]
  it.each(outside)('are not opened elsewhere (%s)', async (name, createType, extent) => {
    describeDisk(name, createType, extent)
    const path = `images/${name}.vmdk`
    const converted = await img(['convert', '-O', 'raw', path, 'stolen.raw'], { cwd })
    expect(converted.code).toBe(1)
    expect(converted.stderr).toContain('not opened')
    expect(converted.stderr).toMatch(/^img: hint: .*--allow-ref/m)
    expect(existsSync(join(cwd, 'stolen.raw'))).toBe(false)
    const told = await img(['info', '--output=json', path], { cwd })
    expect(told.code).toBe(0)
    expect((JSON.parse(told.stdout) as Record<string, unknown>)['virtual-size']).toBe(65536)
    const checked = await img(['check', path], { cwd })
    expect([checked.code, checked.stderr]).toEqual([1, expect.stringContaining('not opened')])
  })

  it('are opened where that was allowed', async () => {
    describeDisk('allowed', 'custom', join(cwd, 'secrets/key'))
    const args = ['--allow-ref', 'secrets', '-O', 'raw', 'images/allowed.vmdk', 'allowed.raw']
    await mustImg(['convert', ...args], { cwd })
    expect(readFileSync(join(cwd, 'allowed.raw')).equals(key)).toBe(true)
  })

  it('are found missing by check', async () => {
    await mustImg(['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', 'm.vmdk', '1M'], {
      cwd,
    })
    rmSync(join(cwd, 'm-s001.vmdk'))
    const { code, stdout, stderr } = await img(['check', 'm.vmdk'], { cwd })
    expect(code).toBe(2)
    expect(stdout).toContain('1 errors were found')
    expect(stderr).toContain('m-s001.vmdk')
  })

  it('are not written where the descriptor would be', async () => {
    const name = 'self'
    describeDisk(name, 'custom', 'self.vmdk')
    const path = join(cwd, 'images/self.vmdk')
    const bytes = Buffer.concat([readFileSync(path), Buffer.alloc(65536, '#')])
    writeFileSync(path, bytes)
    const { code } = await img(['resize', '--shrink', '-f', 'vmdk', 'images/self.vmdk', '32k'], { cwd })
    expect(code).toBe(1)
    expect(readFileSync(path).equals(bytes)).toBe(true)
  })
})

describe('chains and sizes of VMDK', () => {
  it('a broken chain is told of, and mended', async () => {
    await mustImg(['create', '-q', '-f', 'vmdk', 'base.vmdk', '1M'], { cwd })
    await mustImg(['create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', 'top.vmdk'], { cwd })
    await mustImg(['resize', 'base.vmdk', '2M'], { cwd })
    const broken = await img(['map', 'top.vmdk'], { cwd })
    expect(broken.code).toBe(1)
    expect(broken.stderr).toMatch(/chain is broken/)
    expect((await img(['check', 'top.vmdk'], { cwd })).code).toBe(2)
    await mustImg(['check', '-r', 'all', 'top.vmdk'], { cwd })
    await mustImg(['map', 'top.vmdk'], { cwd })
    await mustImg(['resize', 'base.vmdk', '3M'], { cwd })
    await mustImg(['rebase', '-u', '-b', 'base.vmdk', '-F', 'vmdk', 'top.vmdk'], { cwd })
    await mustImg(['map', 'top.vmdk'], { cwd })
  })

  it('a split disk grows into more files, and never over others', async () => {
    const create = ['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse']
    await mustImg([...create, 'grow.vmdk', '1G'], { cwd })
    writeFileSync(join(cwd, 'grow-s003.vmdk'), 'mine')
    const failed = await img(['resize', 'grow.vmdk', '5G'], { cwd })
    expect(failed.code).toBe(1)
    expect(failed.stderr).toContain('grow-s003.vmdk')
    expect(readFileSync(join(cwd, 'grow-s003.vmdk'), 'latin1')).toBe('mine')
    expect(existsSync(join(cwd, 'grow-s002.vmdk'))).toBe(false)
    expect((await img(['info', 'grow.vmdk'], { cwd })).stdout).toContain('1 GiB')
    rmSync(join(cwd, 'grow-s003.vmdk'))
    await mustImg(['resize', 'grow.vmdk', '5G'], { cwd })
    const told = await img(['info', 'grow.vmdk'], { cwd })
    expect(told.stdout).toContain('5 GiB')
    expect(told.stdout).toContain('grow-s003.vmdk')
    await mustImg(['check', 'grow.vmdk'], { cwd })
  })
})
