import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { img, imgFile, type Outcome, runProgram, temporaryDirectory } from './support/cli.js'

describe('a link named qemu-img', () => {
  const cwd = temporaryDirectory()
  const link = join(cwd, 'qemu-img')
  symlinkSync(imgFile, link)
  const run = (...args: string[]): Promise<Outcome> => runProgram(process.execPath, [link, ...args], { cwd })

  it('speaks as qemu-img', async () => {
    expect(await run('nosuch')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^qemu-img: Command not found: nosuch\nTry 'qemu-img --help' for more information\n/,
      ),
    })
    expect((await run('info', 'missing')).stderr).toBe(
      "qemu-img: Could not open 'missing': Could not open 'missing': No such file or directory\n",
    )
    expect((await run('--version')).stdout).toMatch(/^qemu-img version 7\.2 \(img \d/)
  })

  it('warns as qemu-img', async () => {
    await run('create', '-q', '-f', 'raw', 'a.raw', '1M')
    const { stderr } = await run('resize', '-f', 'raw', 'a.raw', '512k')
    expect(stderr).toContain('\nqemu-img: warning: Shrinking an image')
    expect(stderr).not.toMatch(/^img: /m)
  })

  it('takes --trace before the verb', async () => {
    expect((await run('--trace', 'bdrv*', 'info', '-f', 'raw', 'a.raw')).code).toBe(0)
  })
})

describe('--json', () => {
  it('tells an error as one line, with code and hint', async () => {
    const { code, stdout, stderr } = await img(['--json', 'info', '-f', 'qcow', 'missing'])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    const unknown = JSON.parse((await img(['info', '--json', '-f', 'qcow3', 'missing'])).stderr)
    expect(unknown.error).toMatchObject({ code: 'FAILED', exit: 1, hint: expect.stringContaining('qcow') })
    expect(JSON.parse(stderr).error.exit).toBe(1)
    const usage = JSON.parse((await img(['info', '--json'])).stderr)
    expect(usage.error.message).toContain('Expecting one image file name')
    const missing = JSON.parse((await img(['info', '--json', 'missing'])).stderr)
    expect(missing.error).toMatchObject({ code: 'IMG_NOT_FOUND', exit: 1 })
  })

  it('prints results as --output=json does', async () => {
    const cwd = temporaryDirectory()
    await img(['create', '-q', '-f', 'qcow2', 'a', '1M'], { cwd })
    for (const args of [
      ['info', 'a'],
      ['map', 'a'],
      ['check', 'a'],
      ['snapshot', '-l', 'a'],
    ]) {
      const { stdout } = await img(['--json', ...args], { cwd })
      expect(stdout).toBe((await img([...args, '--output=json'], { cwd })).stdout)
      expect(() => JSON.parse(stdout)).not.toThrow()
    }
  })
})

describe('suggestions', () => {
  it.each([
    [['info', '-f', 'qcwo2', 'x'], 'did you mean qcow2?'],
    [['create', '-f', 'qcow2', '-o', 'cluster_sise=4k', 'x', '1M'], 'did you mean cluster_size?'],
    [['snapshto', 'x'], 'did you mean snapshot?'],
  ])('%j', async (args, hint) => {
    const { code, stderr } = await img(args)
    expect(code).toBe(1)
    expect(stderr).toContain(`img: hint: ${hint}\n`)
  })
})
