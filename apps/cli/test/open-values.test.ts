import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const run = { cwd }
const fixture = new URL('../../../packages/lvm/test/fixtures/thin-64k/', import.meta.url)
const { logicalVolumes } = JSON.parse(readFileSync(new URL('manifest.json', fixture), 'utf8')) as {
  logicalVolumes: { name: string; size: number; sha256: string | null }[]
}
const sums = new Map(logicalVolumes.map(({ name, sha256 }) => [name, sha256]))

beforeAll(async () => {
  mkdirSync(join(cwd, 'other'))
  for (const name of ['disk0.raw', 'disk1.raw']) {
    writeFileSync(join(cwd, name), gunzipSync(readFileSync(new URL(`${name}.gz`, fixture))))
  }
  await mustImg(['convert', '-f', 'raw', '-O', 'vmdk', 'disk1.raw', 'other/a,b.vmdk'], run)
})

function digest(file: string): string {
  return createHash('sha256')
    .update(readFileSync(join(cwd, file)))
    .digest('hex')
}

describe('--open', () => {
  const lvm = ['-f', 'lvm', '--open', 'lv=vg0/t1', '--open', 'pv=other/a,,b.vmdk']

  it('opens what is in several images of different formats, wherever they are', async () => {
    await mustImg(['convert', ...lvm, '-O', 'raw', 'disk0.raw', 't1.raw'], run)
    expect(digest('t1.raw')).toBe(sums.get('t1'))
    const compared = await mustImg(
      [
        'compare',
        ...lvm,
        '-F',
        'lvm',
        '--open2',
        'lv=t1',
        '--open2',
        'pv=disk0.raw',
        'disk0.raw',
        'disk1.raw',
      ],
      run,
    )
    expect(compared).toBe('Images are identical.\n')
  })

  it('takes all values of a list', async () => {
    const args = ['--open', 'lv=t1', '--open', 'pv=disk1.raw', '--open', 'pv=disk0.raw']
    const { code, stderr } = await img(['map', '-f', 'lvm', ...args, 'disk0.raw'], run)
    expect(code).toBe(1)
    expect(stderr).toMatch(/disk0\.raw and disk0\.raw hold the same physical volume/)
  })

  it('needs no -f where the option tells what is meant', async () => {
    const args = ['--open', 'lv=t1', '--open', 'pv=other/a,,b.vmdk', 'disk0.raw']
    const map = await mustImg(['map', '--output=json', ...args], run)
    expect(map).toBe(await mustImg(['map', '--output=json', ...lvm, 'disk0.raw'], run))
    await mustImg(['dd', ...args.slice(0, -1), 'if=disk0.raw', 'of=part.raw', 'bs=64k', 'count=1'], run)
    expect(readFileSync(join(cwd, 'part.raw'))).toHaveLength(65536)
    expect(await mustImg(['measure', '-O', 'raw', ...args], run)).toMatch(/required size: /)
    expect(await mustImg(['info', ...args], run)).toMatch(/file format: lvm/)
  })

  it('is the same as the list of --image-opts, whose items may be numbered', async () => {
    const list = 'driver=lvm,lv=t1,pv.0=other/a,,b.vmdk,file.filename=disk0.raw'
    await mustImg(['convert', '--image-opts', list, '-O', 'raw', 'same.raw'], run)
    expect(digest('same.raw')).toBe(sums.get('t1'))
  })

  it('names files from the working directory, not from that of the image', async () => {
    await mustImg(['convert', '-f', 'raw', '-O', 'vdi', 'part.raw', 'parent.vdi'], run)
    const create = ['create', '-q', '-f', 'vdi', '-b', 'parent.vdi', '-F', 'vdi', 'child.vdi']
    await mustImg(create, run)
    mkdirSync(join(cwd, 'deep'))
    copyFileSync(join(cwd, 'child.vdi'), join(cwd, 'deep/child.vdi'))
    const open = ['--open', 'parent=parent.vdi', 'deep/child.vdi']
    expect(await mustImg(['compare', '-F', 'raw', ...open, 'part.raw'], run)).toBe('Images are identical.\n')
    expect(await mustImg(['info', '--backing-chain', ...open], run)).toMatch(/image: .*parent\.vdi\n/)
  })

  it('says which options there are', async () => {
    const { code, stderr } = await img(['info', '--open', 'part=1', '-f', 'lvm', 'disk0.raw'], run)
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^img: Could not open 'disk0\.raw': Block format 'lvm' does not support the option 'part'\nimg: hint: lvm has: lv, pv/,
    )
    const wrong = await img(['info', '--open', '=1', 'disk0.raw'], run)
    expect(wrong.stderr).toBe("img: --open expects NAME=VALUE, not '=1'\n")
  })
})

describe('diff of thin volumes', () => {
  const side = (flag: string, lv: string): string[] => [flag, `lv=${lv}`, flag, 'pv=disk1.raw']
  const disks = ['-f', 'lvm', '-F', 'lvm', 'disk0.raw', 'disk0.raw']
  const ranges = (text: string): readonly { start: number; length: number }[] =>
    (JSON.parse(text) as { extents: { start: number; length: number }[] }).extents

  it('tells between a volume and its snapshot what their contents tell, read or not', async () => {
    for (const lv of ['t1', 's1']) {
      await mustImg(
        ['convert', '-f', 'lvm', ...side('--open', lv), '-O', 'raw', 'disk0.raw', `${lv}.raw`],
        run,
      )
    }
    const args = ['diff', '--output=json', ...side('--open', 's1'), ...side('--open2', 't1')]
    const found = await img([...args, ...disks], run)
    const plain = await img(['diff', '--output=json', '-f', 'raw', '-F', 'raw', 's1.raw', 't1.raw'], run)
    const cut = (text: string): readonly string[] =>
      ranges(text).flatMap(({ start, length }) =>
        Array.from({ length: length / 512 }, (_, i) => `${start + i * 512}`),
      )
    expect([found.code, plain.code]).toEqual([1, 1])
    expect(cut(found.stdout)).toEqual(cut(plain.stdout))
    const quick = await img([...args, '--quick', ...disks], run)
    const covered = new Set(cut(quick.stdout))
    expect(cut(plain.stdout).filter((sector) => !covered.has(sector))).toEqual([])
    expect(covered.size).toBeLessThan(134217728 / 512)
  })
})
