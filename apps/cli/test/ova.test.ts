import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRegistry } from '@img/core'
import { convertFile, openFile } from '@img/node'
import { ova } from '@img/ova/format'
import { raw } from '@img/raw/format'
import { vmdk } from '@img/vmdk/format'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, imgBytes, mustImg, runProgram, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const system = Buffer.concat([
  randomBytes(150_000),
  Buffer.alloc(400_000 - 150_000 + 1408),
  randomBytes(1024),
])
const data = Buffer.alloc(262_144, 'data')
const options = ['-O', 'ova', '-o', 'profile=esxi8,cpus=2,memory=1G,name=My server']

function file(name: string): Buffer {
  return readFileSync(join(cwd, name))
}

/** The members of an archive, by another tool where there is one. */
async function unpack(name: string, to: string): Promise<void> {
  mkdirSync(join(cwd, to), { recursive: true })
  const { code, stderr } = await runProgram('tar', ['xf', name, '-C', to], { cwd })
  if (code !== 0) throw new Error(stderr)
}

beforeAll(async () => {
  writeFileSync(join(cwd, 'system.raw'), system)
  writeFileSync(join(cwd, 'data.raw'), data)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'system.raw', 'system.qcow2'], { cwd })
  await mustImg(['convert', '-f', 'raw', '-O', 'vdi', 'data.raw', 'data.vdi'], { cwd })
  await mustImg(['convert', ...options, 'system.qcow2', 'data.vdi', 'vm.ova'], { cwd })
})

describe('img convert -O ova', () => {
  it('makes of each source a disk of its own', async () => {
    for (const [disk, wanted] of [system, data].entries()) {
      await mustImg(['convert', '--open', `disk=${disk + 1}`, 'vm.ova', '-O', 'raw', 'out.raw'], { cwd })
      expect(file('out.raw').equals(wanted)).toBe(true)
    }
  })

  it('writes the same bytes to standard output', async () => {
    const { code, bytes } = await imgBytes(['convert', ...options, 'system.qcow2', 'data.vdi', '-'], { cwd })
    expect(code).toBe(0)
    expect(Buffer.compare(bytes, file('vm.ova'))).toBe(0)
  })

  it('writes what tar unpacks, with digests as sha256sum computes them', async () => {
    await unpack('vm.ova', 'unpacked')
    const manifest = file('unpacked/My_server.mf').toString()
    const lines = [...manifest.matchAll(/^SHA256\((.*)\)= (.*)$/gm)]
    expect(lines.map(([, name]) => name)).toEqual([
      'My_server.ovf',
      'My_server-disk1.vmdk',
      'My_server-disk2.vmdk',
    ])
    for (const [, name = '', hex] of lines) {
      expect(
        createHash('sha256')
          .update(file(`unpacked/${name}`))
          .digest('hex'),
      ).toBe(hex)
    }
    await mustImg(['compare', '-f', 'vmdk', '-F', 'raw', 'unpacked/My_server-disk1.vmdk', 'system.raw'], {
      cwd,
    })
  })

  it('is what convertFile of @img/node does, with one disk', async () => {
    const registry = createRegistry([ova, vmdk, raw])
    await using disk = await openFile(join(cwd, 'data.raw'), { format: 'raw', registry })
    await convertFile(disk, join(cwd, 'one.ova'), { format: 'ova', registry, options: { cpus: 4 } })
    await using image = await openFile(join(cwd, 'one.ova'), { registry, options: { verify: 'all' } })
    const found = new Uint8Array(image.size)
    await image.read(0, found)
    expect(Buffer.compare(found, data)).toBe(0)
    const bad = convertFile(disk, join(cwd, 'none.ova'), { format: 'ova', registry, options: { cpus: 0 } })
    await expect(bad).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    expect(existsSync(join(cwd, 'none.ova'))).toBe(false)
  })

  it('leaves nothing where it fails, and says why', async () => {
    const refused = async (args: string[], text: string, input?: Buffer): Promise<void> => {
      const { code, stderr } = await img(['convert', '-O', 'ova', ...args, 'new.ova'], {
        cwd,
        ...(input && { input }),
      })
      expect(code).toBe(1)
      expect(stderr).toContain(text)
      expect(existsSync(join(cwd, 'new.ova'))).toBe(false)
    }
    await refused(['-o', 'profile=xen', 'system.qcow2'], 'esxi6, esxi7, esxi8, workstation, virtualbox')
    await refused(['-o', 'profile=virtualbox,firmware=efi', 'system.qcow2'], 'VirtualBox')
    await refused(['-B', 'data.raw', '-F', 'raw', 'system.qcow2'], 'Backing file not supported')
    await refused(['--bitmaps', 'system.qcow2'], 'bitmaps')
    await refused(['-f', 'raw', '-'], 'cannot be read from a pipe', data)
    const made = await img(['create', '-f', 'ova', 'new.ova', '1G'], { cwd })
    expect([made.code, made.stderr]).toEqual([1, expect.stringContaining('img convert -O ova')])
    const same = await img(['convert', '-O', 'ova', '--open', 'disk=1', 'vm.ova', 'vm.ova'], { cwd })
    expect(same.stderr).toContain('cannot be the target too')
  })
})

describe('packages as sources', () => {
  it('need the name of a disk where there are several', async () => {
    const { code, stderr } = await img(['convert', 'vm.ova', 'none.raw'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toContain('1: vmdisk1 (My_server-disk1.vmdk); 2: vmdisk2 (My_server-disk2.vmdk)')
    expect(stderr).toContain('--open disk=1')
    expect(existsSync(join(cwd, 'none.raw'))).toBe(false)
  })

  it('are opened by --image-opts and json: names, too', async () => {
    const listed = 'driver=ova,disk=My_server-disk2.vmdk,file.filename=vm.ova'
    await mustImg(['convert', '--image-opts', listed, '-O', 'raw', 'out.raw'], { cwd })
    expect(file('out.raw').equals(data)).toBe(true)
    const json = JSON.stringify({ driver: 'ova', disk: 'vmdisk1', file: { filename: 'vm.ova' } })
    await mustImg(['convert', `json:${json}`, '-O', 'raw', 'out.raw'], { cwd })
    expect(file('out.raw').equals(system)).toBe(true)
  })

  it('are read from a pipe, and refused at its end where they were changed', async () => {
    const from = ['convert', '-f', 'ova', '--open', 'disk=1', '-', '-O', 'qcow2', 'piped.qcow2']
    const bad = file('vm.ova')
    const at = bad.indexOf('KDMV') + 70_000
    bad[at] = (bad[at] ?? 0) ^ 1
    const { code } = await img(from, { cwd, input: bad })
    expect(code).toBe(1)
    expect(existsSync(join(cwd, 'piped.qcow2'))).toBe(false)
    await mustImg(from, { cwd, input: file('vm.ova') })
    await mustImg(['convert', 'piped.qcow2', '-O', 'raw', 'out.raw'], { cwd })
    expect(file('out.raw').equals(system)).toBe(true)
  })

  it('are told of with disks, manifest and hardware', async () => {
    const { stdout } = await img(['info', 'vm.ova'], { cwd })
    expect(stdout).toMatch(/^file format: ova$/m)
    expect(stdout).toMatch(
      /disks:\n {8}\[0\]:\n {12}number: 1\n {12}id: vmdisk1\n {12}file: My_server-disk1\.vmdk\n/,
    )
    const json = JSON.parse((await img(['info', '--output=json', 'vm.ova'], { cwd })).stdout)
    expect(json['virtual-size']).toBe(system.length + data.length)
    const facts = json['format-specific'].data
    expect(facts.disks.map((disk: Record<string, unknown>) => disk['virtual-size'])).toEqual([
      system.length,
      data.length,
    ])
    expect(facts.manifest.verified).toEqual(['My_server.ovf'])
    expect(facts['virtual-systems'][0].hardware[1]).toMatchObject({
      resource: 'memory',
      'virtual-quantity': 1024,
    })
  })

  it('are mapped and checked', async () => {
    const map = JSON.parse(
      (await img(['map', '--output=json', '--open', 'disk=1', 'vm.ova'], { cwd })).stdout,
    )
    expect(map[0]).toMatchObject({ start: 0, data: true })
    expect((await img(['check', 'vm.ova'], { cwd })).code).toBe(0)
    const bytes = file('vm.ova')
    bytes[bytes.length - 5000] = (bytes[bytes.length - 5000] ?? 0) ^ 1
    writeFileSync(join(cwd, 'bad.ova'), bytes)
    const bad = await img(['check', 'bad.ova'], { cwd })
    expect(bad.code).toBe(2)
    expect(bad.stdout + bad.stderr).toContain('the SHA256 digest of "My_server-disk2.vmdk" is not the one')
    const convert = await img(['convert', '--open', 'disk=2', 'bad.ova', 'bad.raw'], { cwd })
    expect(convert.code).toBe(1)
    expect(existsSync(join(cwd, 'bad.raw'))).toBe(false)
  })

  it('are not written', async () => {
    for (const args of [
      ['resize', 'vm.ova', '1G'],
      ['convert', '-n', '-f', 'raw', 'data.raw', '-O', 'ova', 'vm.ova'],
      ['check', '-r', 'all', 'vm.ova'],
    ]) {
      const before = file('vm.ova')
      const { code, stderr } = await img(args, { cwd })
      expect([args[0], code]).not.toEqual([args[0], 0])
      expect(stderr).toContain('packages are only read')
      expect(file('vm.ova').equals(before)).toBe(true)
    }
  })
})

describe('folders', () => {
  it('are opened by their descriptor, through the gate', async () => {
    await unpack('vm.ova', 'folder')
    await mustImg(['convert', '--open', 'disk=2', 'folder/My_server.ovf', '-O', 'raw', 'out.raw'], { cwd })
    expect(file('out.raw').equals(data)).toBe(true)
    expect((await img(['info', 'folder/My_server.ovf'], { cwd })).stdout).toMatch(/^file format: ovf$/m)
    expect((await img(['check', 'folder/My_server.ovf'], { cwd })).code).toBe(0)
  })

  it.skipIf(process.platform === 'win32')('follow no symbolic link out of them', async () => {
    await unpack('vm.ova', 'linked')
    mkdirSync(join(cwd, 'linked/inner'))
    for (const name of ['My_server.ovf', 'My_server.mf', 'My_server-disk2.vmdk']) {
      writeFileSync(join(cwd, 'linked/inner', name), file(`linked/${name}`))
    }
    symlinkSync('../My_server-disk1.vmdk', join(cwd, 'linked/inner/My_server-disk1.vmdk'))
    const { code, stderr } = await img(
      ['convert', '--open', 'disk=1', 'linked/inner/My_server.ovf', 'stolen.raw'],
      { cwd },
    )
    expect(code).toBe(1)
    expect(stderr).toContain('not opened')
    expect(existsSync(join(cwd, 'stolen.raw'))).toBe(false)
  })
})
