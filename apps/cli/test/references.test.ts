import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory, withoutExtras } from './support/cli.js'

const cwd = temporaryDirectory()
const overlay = (backing: string, name: string): Promise<string> =>
  mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', 'raw', name, '64k'], { cwd })

beforeAll(async () => {
  for (const directory of ['images', 'secrets']) mkdirSync(join(cwd, directory))
  writeFileSync(join(cwd, 'secrets/key'), Buffer.alloc(65536, 'k'))
  writeFileSync(join(cwd, 'images/base.raw'), Buffer.alloc(65536, 'b'))
  await overlay('base.raw', 'images/good.qcow2')
  await overlay('../secrets/key', 'images/evil.qcow2')
  await overlay(join(cwd, 'secrets/key'), 'images/absolute.qcow2')
  await overlay('json:{"driver":"raw","file.filename":"secrets/key"}', 'images/json.qcow2')
  await overlay('nosuch.raw', 'images/missing.qcow2')
})

describe('files that images name', () => {
  it('are opened in their own directory', async () => {
    await mustImg(['convert', '-O', 'raw', 'images/good.qcow2', 'out.raw'], { cwd })
  })

  it.each(['evil', 'absolute', 'json'])('are not opened elsewhere (%s)', async (name) => {
    for (const args of [
      ['convert', '-O', 'raw', `images/${name}.qcow2`, 'stolen.raw'],
      ['map', `images/${name}.qcow2`],
    ]) {
      const { code, stdout, stderr } = await img(args, { cwd })
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toContain('not opened')
      expect(stderr).toMatch(/^img: hint: .*--allow-ref/m)
    }
  })

  it('are opened where that was allowed', async () => {
    const convert = (name: string, options: string[], env = {}): Promise<{ code: number | null }> =>
      img(['convert', ...options, '-O', 'raw', `images/${name}.qcow2`, 'out.raw'], { cwd, env })
    expect((await convert('evil', ['--allow-ref', 'secrets'])).code).toBe(0)
    expect(
      (await convert('absolute', ['--allow-ref', 'nowhere', '--allow-ref', join(cwd, 'secrets')])).code,
    ).toBe(0)
    expect((await convert('evil', [], { IMG_ALLOW_REF: `nowhere:${join(cwd, 'secrets')}` })).code).toBe(0)
    expect((await convert('json', ['--allow-ref', 'secrets'])).code).toBe(1)
    expect((await convert('json', ['--allow-ref', 'all'])).code).toBe(0)
  })

  it('with a protocol are told by the files they lead to, as by qemu-img', async () => {
    const chain = async (backing: string): Promise<unknown[]> => {
      await overlay(backing, 'top.qcow2')
      const args = ['info', '--backing-chain', '--output=json', '--allow-ref', 'all', 'top.qcow2']
      const entries = JSON.parse(await mustImg(args, { cwd })) as Record<string, unknown>[]
      return entries.map((each) => [each.filename, each['full-backing-filename']])
    }
    const path = join(cwd, 'images/base.raw')
    for (const [name, shown] of [
      [`file:${path}`, path],
      ['file:images/base.raw', 'images/base.raw'],
      ['json:{"driver":"raw","file.filename":"images/base.raw"}', 'images/base.raw'],
    ] as const) {
      expect(await chain(name)).toEqual([
        ['top.qcow2', name],
        [shown, undefined],
      ])
    }
  })

  it('are told of without being opened', async () => {
    for (const name of ['evil', 'absolute', 'json', 'missing']) {
      const { code, stdout, stderr } = await img(['info', `images/${name}.qcow2`], { cwd })
      expect([code, stderr]).toEqual([0, ''])
      expect(stdout).toContain('\nbacking file: ')
    }
    expect((await img(['info', '--backing-chain', 'images/evil.qcow2'], { cwd })).stderr).toContain(
      'not opened',
    )
  })

  it('are looked for where the image says', async () => {
    const { code, stderr } = await img(['info', '--backing-chain', 'images/missing.qcow2'], { cwd })
    expect(code).toBe(1)
    expect(withoutExtras(stderr)).toMatch(
      /^img: Could not open 'images\/missing\.qcow2': |^img: Could not open 'images\/nosuch\.raw': /,
    )
  })

  it('that go round in circles are an error', async () => {
    const make = (backing: string, name: string) =>
      mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', name, '64k'], { cwd })
    await make('two.qcow2', 'one.qcow2')
    await make('one.qcow2', 'two.qcow2')
    expect((await img(['info', '--backing-chain', 'one.qcow2'], { cwd })).stderr).toMatch(
      /creates an infinite loop\.\n$/,
    )
    expect((await img(['map', 'one.qcow2'], { cwd })).code).toBe(1)
  })
})
