import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { canEncrypt } from './support/capabilities.js'
import { img, mustImg, runProgram, temporaryDirectory } from './support/cli.js'
import { makeDisk, sha256 } from './support/content.js'
import { hasQemu } from './support/qemu.js'

const cwd = temporaryDirectory()
const secrets = ['--object', 'secret,id=a,file=a', '--object', 'secret,id=b,file=b']
const file = (prefix: string, name: string): string =>
  `${prefix}driver=qcow2,${prefix}file.driver=file,${prefix}file.filename=${name}`
const below = (prefix: string): string =>
  `${file(prefix, 'middle.qcow2')},${prefix}encrypt.key-secret=b,${file(`${prefix}backing.`, 'base.qcow2')},${prefix}backing.encrypt.key-secret=a`
const top = `${file('', 'top.qcow2')},${below('backing.')}`

describe.skipIf(!canEncrypt())('a chain whose layers have passphrases of their own', () => {
  beforeAll(async () => {
    writeFileSync(join(cwd, 'a'), 'first')
    writeFileSync(join(cwd, 'b'), 'second')
    makeDisk(join(cwd, 'disk.raw'), 1 << 20, 'chain')
    const luks = 'encrypt.format=luks,encrypt.iter-time=1'
    await mustImg(
      [
        'convert',
        ...secrets,
        '-f',
        'raw',
        '-O',
        'qcow2',
        '-o',
        `${luks},encrypt.key-secret=a`,
        'disk.raw',
        'base.qcow2',
      ],
      { cwd },
    )
    const over = (name: string, backing: string, more: readonly string[]): Promise<string> =>
      mustImg(['create', '-q', '-u', '-f', 'qcow2', ...more, '-b', backing, '-F', 'qcow2', name, '1M'], {
        cwd,
      })
    await over('middle.qcow2', 'base.qcow2', [...secrets, '-o', `${luks},encrypt.key-secret=b`])
    await over('top.qcow2', 'middle.qcow2', [])
  })

  it('is read, written and committed, each with its own', async () => {
    await mustImg(['convert', ...secrets, '--image-opts', top, '-O', 'raw', 'out.raw'], { cwd })
    expect(sha256(join(cwd, 'out.raw'))).toBe(sha256(join(cwd, 'disk.raw')))
    await mustImg(
      ['bench', ...secrets, '-w', '-c', '3', '-s', '70k', '--pattern', '5', '--image-opts', top],
      { cwd },
    )
    await mustImg(['convert', ...secrets, '--image-opts', top, '-O', 'raw', 'changed.raw'], { cwd })
    await mustImg(['commit', ...secrets, '--image-opts', top], { cwd })
    const middle = `${below('')}`
    await mustImg(['convert', ...secrets, '--image-opts', middle, '-O', 'raw', 'out.raw'], { cwd })
    expect(sha256(join(cwd, 'out.raw'))).toBe(sha256(join(cwd, 'changed.raw')))
    if (!hasQemu) return
    const compare = ['compare', ...secrets, '--image-opts', middle, 'driver=raw,file.filename=changed.raw']
    expect((await runProgram('qemu-img', compare, { cwd })).code).toBe(0)
  })

  it('has no places in the file that map could tell', async () => {
    const map = async (...how: readonly string[]): Promise<string> =>
      (await img(['map', ...secrets, ...how, '--image-opts', below('')], { cwd })).stdout
    const told = await map('--output=json')
    expect(JSON.parse(told)).toContainEqual(expect.objectContaining({ depth: 1, data: true }))
    expect(told).not.toContain('offset')
    if (!hasQemu) return
    const theirs = await runProgram(
      'qemu-img',
      ['map', ...secrets, '--output=json', '--image-opts', below('')],
      { cwd },
    )
    expect(JSON.parse(told)).toEqual(JSON.parse(theirs.stdout))
  })

  it('is read where an image tells them in a json: name, and that is allowed', async () => {
    const name = `json:${JSON.stringify({
      driver: 'qcow2',
      'encrypt.key-secret': 'a',
      file: { driver: 'file', filename: join(cwd, 'base.qcow2') },
    })}`
    const create = ['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'qcow2', 'told.qcow2', '1M']
    await mustImg(create, { cwd })
    const convert = ['convert', ...secrets, '--allow-ref', 'all', '-O', 'raw', 'told.qcow2', 'out.raw']
    await mustImg(convert, { cwd })
    expect(sha256(join(cwd, 'out.raw'))).toBe(sha256(join(cwd, 'disk.raw')))
  })

  it('refuses what the format of a layer does not know', async () => {
    const { code, stderr } = await img(['map', '--image-opts', top.replaceAll('key-secret', 'nosuch')], {
      cwd,
    })
    expect(code).toBe(1)
    expect(stderr).toContain("Block format 'qcow2' does not support the option 'encrypt.nosuch'")
    const driver = await img(
      ['map', '--image-opts', top.replace('backing.driver=qcow2', 'backing.driver=no')],
      { cwd },
    )
    expect(driver.code).toBe(1)
    expect(driver.stderr).toContain("Unknown driver 'no'")
  })
})
