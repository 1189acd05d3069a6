import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, imgBytes, mustImg, temporaryDirectory } from './support/cli.js'
import { makeDisk } from './support/content.js'
import { serveDirectory, type WebServer } from './support/web-server.js'

const cwd = temporaryDirectory()
const run = { cwd }
const size = 4 * 1024 * 1024
let disk: Uint8Array
let server: WebServer

beforeAll(async () => {
  mkdirSync(join(cwd, 'there'))
  server = await serveDirectory(join(cwd, 'there'))
  disk = makeDisk(join(cwd, 'there/disk.raw'), size)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], {
    cwd: join(cwd, 'there'),
  })
  const create = ['create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'top layer.qcow2']
  await mustImg(create, { cwd: join(cwd, 'there') })
  copyFileSync(join(cwd, 'there/disk.qcow2'), join(cwd, 'local.qcow2'))
  copyFileSync(join(cwd, 'there/disk.raw'), join(cwd, 'local.raw'))
})

describe('a source on a web server', () => {
  const url = (name = 'disk.qcow2'): string => `${server.url}/${encodeURIComponent(name)}`

  it('is read by info, map, check, measure and snapshot as a file is', async () => {
    for (const args of [
      ['map', '--output=json'],
      ['map'],
      ['check'],
      ['measure', '-O', 'qcow2'],
      ['snapshot', '-l'],
    ]) {
      const here = await mustImg([...args, 'local.qcow2'], run)
      const there = await mustImg([...args, url()], run)
      expect(there.replaceAll(url(), 'local.qcow2')).toBe(here)
    }
    const info = await mustImg(['info', url()], run)
    expect(info).toContain(
      `image: ${url()}\nfile format: qcow2\nvirtual size: 4 MiB (4194304 bytes)\ndisk size: unavailable\n`,
    )
    expect(JSON.parse(await mustImg(['info', '--output=json', url()], run))).not.toHaveProperty('actual-size')
  })

  it('is fetched only where it is read', async () => {
    const before = server.sent()
    await mustImg(['info', url('disk.raw'), '-f', 'raw'], run)
    await mustImg(['dd', '-f', 'raw', `if=${url('disk.raw')}`, 'of=part.raw', 'bs=4k', 'count=1'], run)
    expect(server.sent() - before).toBeLessThan(size / 2)
    expect(Buffer.compare(readFileSync(join(cwd, 'part.raw')), disk.subarray(0, 4096))).toBe(0)
  })

  it('is converted, compared and copied to a pipe', async () => {
    await mustImg(['convert', '-O', 'raw', url(), 'copy.raw'], run)
    expect(Buffer.compare(readFileSync(join(cwd, 'copy.raw')), disk)).toBe(0)
    await mustImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', url('disk.raw'), 'copy.qcow2'], run)
    expect(await mustImg(['compare', 'copy.qcow2', url()], run)).toBe('Images are identical.\n')
    expect(await mustImg(['diff', 'local.qcow2', url()], run)).toBe('Images are identical.\n')
    const piped = await imgBytes(['convert', '-O', 'raw', url(), '-'], run)
    expect(Buffer.compare(piped.bytes, disk)).toBe(0)
  })

  it('is named in options and JSON, too', async () => {
    const options = `driver=qcow2,file.driver=http,file.url=${url()}`
    expect(
      await mustImg(['compare', '--image-opts', options, 'driver=raw,file.filename=local.raw'], run),
    ).toBe('Images are identical.\n')
    const json = JSON.stringify({ driver: 'qcow2', file: { driver: 'http', url: url() } })
    expect(await mustImg(['map', `json:${json}`], run)).toContain(url())
  })

  it('is a backing file only where that is allowed', async () => {
    const create = ['create', '-q', '-f', 'qcow2', '-b', url(), '-F', 'qcow2', 'over.qcow2']
    await mustImg(create, run)
    const refused = await img(['convert', '-O', 'raw', 'over.qcow2', 'no.raw'], run)
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('which is on a web server: not opened')
    expect(refused.stderr).toContain(`--allow-ref ${server.url}/ or --allow-ref all`)
    for (const allowed of ['all', server.url, url()]) {
      const args = ['compare', '--allow-ref', allowed, '-F', 'raw', 'over.qcow2', 'local.raw']
      expect(await mustImg(args, run)).toBe('Images are identical.\n')
    }
    const elsewhere = [
      'compare',
      '--allow-ref',
      `${server.url}/other/`,
      '-F',
      'raw',
      'over.qcow2',
      'local.raw',
    ]
    expect((await img(elsewhere, run)).code).toBe(2)
  })

  it('names files beside itself', async () => {
    const top = url('top layer.qcow2')
    const allowed = ['--allow-ref', `${server.url}/`]
    expect((await img(['map', top], run)).code).toBe(1)
    expect(await mustImg(['compare', ...allowed, '-F', 'raw', top, 'local.raw'], run)).toBe(
      'Images are identical.\n',
    )
    expect(await mustImg(['info', '--backing-chain', ...allowed, top], run)).toContain(`image: ${url()}\n`)
  })

  it('is not written', async () => {
    for (const args of [
      ['resize', url(), '8M'],
      ['check', '-r', 'all', url()],
      ['rebase', '-u', '-b', '', url()],
    ]) {
      const { code, stderr } = await img(args, run)
      expect([code, stderr]).toEqual([
        1,
        `img: Could not open '${url()}': a file on a web server is only read\n`,
      ])
    }
    for (const args of [
      ['create', '-f', 'raw', url('new.raw'), '1M'],
      ['convert', '-f', 'raw', '-O', 'qcow2', 'local.raw', url('new.qcow2')],
    ]) {
      const { code, stderr } = await img(args, run)
      expect(code).toBe(1)
      expect(stderr).toMatch(/^img: .*Protocol driver 'http' does not support image creation\n/)
    }
  })

  it('may be missing, or be no URL', async () => {
    const { code, stderr } = await img(['info', url('none.raw')], run)
    expect([code, stderr.split('\n')[0]]).toEqual([
      1,
      expect.stringMatching(/^img: Could not open 'http:.*none\.raw': .*404/),
    ])
    expect((await img(['info', 'http://'], run)).stderr).toContain(
      "Could not open 'http://': this is not a URL",
    )
  })
})

describe('measure of standard input', () => {
  it('tells what convert then takes', async () => {
    const input = new Uint8Array(3_000_320)
    input.fill(7, 100_000, 400_000)
    input[2_999_999] = 1
    const args = ['measure', '-f', 'raw', '-O', 'qcow2', '--output=json', '-']
    const measured = JSON.parse((await img(args, { ...run, input })).stdout) as { required: number }
    await img(['convert', '-f', 'raw', '-O', 'qcow2', '-', 'piped.qcow2'], { ...run, input })
    expect(measured.required).toBe(readFileSync(join(cwd, 'piped.qcow2')).length)
    // A file of data without holes counts whole, as qemu-img counts it.
    writeFileSync(join(cwd, 'whole.raw'), new Uint8Array(65536).fill(1))
    const file = await mustImg(['measure', '-f', 'raw', '-O', 'raw', 'whole.raw'], run)
    const piped = await img(['measure', '-f', 'raw', '-O', 'raw', '-'], {
      ...run,
      input: new Uint8Array(65536).fill(1),
    })
    expect(piped.stdout).toBe(file)
  })

  it('needs a format', async () => {
    const { code, stderr } = await img(['measure', '-O', 'qcow2', '-'], run)
    expect([code, stderr]).toEqual([
      1,
      'img: the format of standard input must be named with -f\n' +
        'img: hint: a pipe can be read only once, so it is not probed; such as -f raw\n',
    ])
  })
})
