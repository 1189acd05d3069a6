import { createHash } from 'node:crypto'
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const mib = 1024 * 1024
const content = Buffer.from(
  Uint8Array.from({ length: 3 * mib }, (_, at) => (at * 7 + Math.floor(at / 4096)) % 251),
)

function sha256(file: string): string {
  return createHash('sha256')
    .update(readFileSync(join(cwd, file)))
    .digest('hex')
}

/** A volume's content as a raw file. */
async function read(volume: string, disk: string, file: string, ...more: string[]): Promise<string> {
  await mustImg(['convert', '-f', 'lvm', '--open', `lv=${volume}`, ...more, disk, '-O', 'raw', file], { cwd })
  return sha256(file)
}

async function group(disk: string, ...more: string[]): Promise<Record<string, never[]>> {
  return JSON.parse(await mustImg(['lvm', 'list', '--output', 'json', ...more, disk], { cwd }))
}

beforeAll(async () => {
  writeFileSync(join(cwd, 'root.raw'), content)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'root.raw', 'root.qcow2'], { cwd })
})

describe('a disk with volumes', () => {
  const create = ['create', '-q', '-f', 'lvm', '-o', 'seed=1,extent_size=1M']

  it('is made from a list, filled from images, and the same each time', async () => {
    const lists = ['--lv', 'root,from=root.qcow2', '--lv', 'swap=1500k,tags=a,,b']
    await mustImg([...create, ...lists, 'made.raw'], { cwd })
    await mustImg([...create, ...lists, 'again.raw'], { cwd })
    expect(sha256('made.raw')).toBe(sha256('again.raw'))
    expect(statSync(join(cwd, 'made.raw')).size).toBe(6 * mib)
    expect(await read('vg0/root', 'made.raw', 'out.raw')).toBe(sha256('root.raw'))
    expect((await group('made.raw'))['logical-volumes']).toMatchObject([
      { name: 'root', size: 3 * mib, type: 'linear', tags: [] },
      { name: 'swap', size: 2 * mib, type: 'linear', tags: ['a', 'b'] },
    ])
  })

  it('is told of by info, as raw and as lvm, in an image of another format, and segments where asked for', async () => {
    await mustImg([...create, '--lv', 'root=2M', 'info.raw'], { cwd })
    await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'info.raw', 'info.qcow2'], { cwd })
    const facts = { 'volume-group': { name: 'vg0' }, 'logical-volumes': [{ name: 'root', size: 2 * mib }] }
    for (const [file, format] of [
      ['info.raw', 'raw'],
      ['info.qcow2', 'qcow2'],
    ] as const) {
      const text = await mustImg(['info', '--output', 'json', file], { cwd })
      expect(JSON.parse(text)).toMatchObject({ format, lvm: facts })
      expect(text).not.toContain('segments')
      const { stdout, stderr } = await img(['info', file], { cwd })
      expect(stdout).toMatch(/LVM:\n +VG .*\n +vg0 /)
      expect(stderr).toBe('')
    }
    const own = await mustImg(['info', '-f', 'lvm', '--segments', '--output', 'json', 'info.raw'], { cwd })
    expect(JSON.parse(own)).toMatchObject({ format: 'lvm', 'format-specific': { type: 'lvm', data: facts } })
    expect(own).toContain('"areas"')
    expect(await mustImg(['info', '-f', 'raw', 'root.raw'], { cwd })).not.toContain('LVM')
  })

  it('has one volume that need not be named; of several, the error lists them', async () => {
    await mustImg([...create, '--lv', 'root,from=root.qcow2', 'one.raw'], { cwd })
    await mustImg(['convert', '-f', 'lvm', 'one.raw', '-O', 'raw', 'out.raw'], { cwd })
    expect(sha256('out.raw')).toBe(sha256('root.raw'))
    const { code, stderr } = await img(['convert', '-f', 'lvm', 'made.raw', '-O', 'raw', 'none.raw'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toContain('root, swap')
  })

  it('spreads over several disks and partitions; nothing is changed without all of them', async () => {
    const made = ['--pv', 'b.raw', '--lv', 'fast=100%FREE,stripes=2,stripe_size=8k']
    await mustImg(
      ['create', '-q', '-f', 'lvm', '-o', 'vg=data,partition=gpt,extent_size=1M', ...made, 'a.raw', '8M'],
      { cwd },
    )
    const volumes = (await group('a.raw', '--open', 'pv=b.raw'))['logical-volumes']
    expect(volumes).toMatchObject([{ name: 'fast', size: 10 * mib, type: 'striped' }])
    const { code, stderr } = await img(['lvm', 'remove', 'a.raw', 'fast'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toContain('is not complete, so nothing in it is changed: pv1')
    await mustImg(['lvm', 'remove', '--open', 'pv=b.raw', 'a.raw', 'data/fast'], { cwd })
    // Extents smaller than a stripe are no matter to a linear volume; a share may be of the volume itself.
    await mustImg(['create', '-q', '-f', 'lvm', '-o', 'extent_size=1k', '--lv', 'x=1M', 'f.raw', '8M'], {
      cwd,
    })
    await mustImg(['lvm', 'extend', '-q', 'f.raw', 'x', '+50%LV'], { cwd })
    expect((await group('f.raw'))['logical-volumes']).toMatchObject([{ size: 1.5 * mib }])
    // Of a share, what fits in stripes over disks of unequal size; of a size, all or nothing.
    const unequal = ['-o', 'extent_size=1M', '--pv', 'd.raw,size=5M']
    await mustImg([...create, ...unequal, '--lv', 'all=100%FREE,stripes=2', 'c.raw', '9M'], { cwd })
    const [all] = (await group('c.raw', '--open', 'pv=d.raw'))['logical-volumes'] as { size: number }[]
    expect(all?.size).toBe(8 * mib)
    const whole = await img([...create, ...unequal, '--lv', 'all=12M,stripes=2', 'e.raw', '9M'], { cwd })
    expect(whole.stderr).toContain('has no room for')
  })

  it('leaves no file where it cannot be made', async () => {
    const { code, stderr } = await img([...create, '--lv', 'root=100M', 'none.raw', '8M'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toContain('has no room for')
    expect(() => statSync(join(cwd, 'none.raw'))).toThrow()
    const small = await img([...create, '--lv', 'root=1M,from=root.qcow2', 'none.raw'], { cwd })
    expect(small.stderr).toContain('has no room for the 3145728 bytes of its source')
  })

  it('takes a share of the physical volumes that are named', async () => {
    await mustImg([...create, '--pv', 'share1.raw', '--lv', 'first=2M', 'share0.raw', '16M'], { cwd })
    const others = ['--open', 'pv=share1.raw']
    const disks = async (): Promise<
      { readonly name: string; readonly size: number; readonly free: number }[]
    > => (await group('share0.raw', ...others))['physical-volumes'] as never
    const [, before] = await disks()
    await mustImg(['lvm', 'create', '--on', 'pv1', ...others, 'share0.raw', 'all', '100%FREE'], { cwd })
    const [first, after] = await disks()
    expect([before?.free, after?.free]).toEqual([before?.size, 0])
    expect(first?.free).toBeGreaterThan(0)
    const none = await img(['lvm', 'create', '--on', 'pv1', ...others, 'share0.raw', 'x', '50%FREE'], { cwd })
    expect(none.stderr).toMatch(/50%FREE is no room: 0 bytes are free in vg0, pv1/)
  })

  it('is managed by verbs', async () => {
    await mustImg([...create, '--lv', 'root,from=root.qcow2', 'verbs.raw', '12M'], { cwd })
    const verb = (...args: string[]): Promise<string> => mustImg(['lvm', ...args], { cwd })
    expect(await verb('create', 'verbs.raw', 'vg0/data', '2M', '--tag', 'x')).toContain('vg0/data created')
    await verb('extend', 'verbs.raw', 'data', '+1M')
    await verb('reduce', 'verbs.raw', 'data', '-2M')
    await verb('rename', 'verbs.raw', 'data', 'other')
    await verb('tag', 'verbs.raw', 'other', '--add', 'y', '--delete', 'x')
    await verb('rename', 'verbs.raw', 'vg0', 'vg1')
    expect((await group('verbs.raw'))['logical-volumes']).toMatchObject([
      { name: 'root', size: 3 * mib },
      { name: 'other', size: mib, tags: ['y'] },
    ])
    await verb('remove', 'verbs.raw', 'other')
    expect(await read('vg1/root', 'verbs.raw', 'out.raw')).toBe(sha256('root.raw'))
    const wrong = await img(['lvm', 'shrink', 'verbs.raw'], { cwd })
    expect(wrong.stderr).toContain('there are: list, create')
  })

  it('has snapshots', async () => {
    await mustImg([...create, '--lv', 'root,from=root.qcow2', 'snap.raw', '16M'], { cwd })
    const root = ['-f', 'lvm', '--open', 'lv=root']
    await mustImg(['snapshot', '-c', 'before', ...root, 'snap.raw'], { cwd })
    writeFileSync(join(cwd, 'zeros.raw'), Buffer.alloc(3 * mib))
    const target = 'driver=lvm,lv=vg0/root,file.filename=snap.raw'
    await mustImg(['convert', '-n', '--target-image-opts', '-f', 'raw', 'zeros.raw', target], { cwd })
    expect(await mustImg(['snapshot', '-l', ...root, 'snap.raw'], { cwd })).toContain('before')
    expect(await mustImg(['snapshot', '-l', '-f', 'lvm', 'snap.raw'], { cwd })).toContain('before')
    const unnamed = await img(['snapshot', '-c', 'more', '-f', 'lvm', 'snap.raw'], { cwd })
    expect(unnamed.stderr).toContain('has several logical volumes: root, before')
    expect(await read('root', 'snap.raw', 'out.raw')).toBe(sha256('zeros.raw'))
    expect(await read('before', 'snap.raw', 'out.raw')).toBe(sha256('root.raw'))
    await mustImg(['snapshot', '-a', 'before', ...root, 'snap.raw'], { cwd })
    expect(await read('root', 'snap.raw', 'out.raw')).toBe(sha256('root.raw'))
    await mustImg(['lvm', 'merge', 'snap.raw', 'before'], { cwd })
    expect((await group('snap.raw'))['logical-volumes']).toHaveLength(1)
  })
})

describe('resize of a disk with partitions and volumes', () => {
  it('says what it means, and grows all of it where asked to', async () => {
    const how = ['create', '-q', '-f', 'lvm', '-o', 'partition=gpt,metadata_copies=2,extent_size=1M']
    await mustImg([...how, '--lv', 'root,from=root.qcow2', 'grow.raw'], { cwd })
    const plain = await img(['resize', '-f', 'raw', 'grow.raw', '+4M'], { cwd })
    expect(plain.stdout).toBe('Image resized.\n')
    expect(plain.stderr).toMatch(
      /partitions on the disk \(1\) do not grow with it; --lvm .* or --partition NUMBER/,
    )
    const said = await mustImg(['resize', '-f', 'raw', '--lv', 'root', 'grow.raw', '+4M'], { cwd })
    expect(said).toMatch(/Partition 1 grew .*\nPhysical volume pv0 grew .*\nVolume vg0\/root grew/)
    const [volume] = (await group('grow.raw'))['logical-volumes'] as unknown as { readonly size: number }[]
    expect(volume?.size).toBeGreaterThan(8 * mib)
    await read('root', 'grow.raw', 'out.raw')
    truncateSync(join(cwd, 'out.raw'), 3 * mib)
    expect(sha256('out.raw')).toBe(sha256('root.raw'))
    const cut = await img(['resize', '-f', 'raw', '--shrink', 'grow.raw', '4M'], { cwd })
    expect(cut.stderr).toContain('beyond the new end of the disk')
  })

  it('takes the other disks of the group, and does nothing where one is missing', async () => {
    const how = ['create', '-q', '-f', 'lvm', '-o', 'seed=2,extent_size=1M,partition=gpt']
    await mustImg([...how, '--pv', 'pair1.raw', '--lv', 'wide=4M,stripes=2', 'pair0.raw', '8M'], { cwd })
    const { size } = statSync(join(cwd, 'pair1.raw'))
    const alone = await img(['resize', '-f', 'raw', '--lvm', 'pair1.raw', '+8M'], { cwd })
    expect(alone.code).toBe(1)
    expect(alone.stderr).toMatch(/group vg0 is not complete: pv0 .* is missing\n.*--open pv=FILE/)
    expect(statSync(join(cwd, 'pair1.raw')).size).toBe(size)
    const others = ['--open', 'pv=pair0.raw']
    const said = await mustImg(['resize', '-f', 'raw', '--lvm', ...others, 'pair1.raw', '+8M'], { cwd })
    expect(said).toMatch(/Partition 1 grew .*\nPhysical volume pv1 grew /)
    const list = (await group('pair0.raw', '--open', 'pv=pair1.raw'))['physical-volumes'] as unknown[]
    expect(list).toHaveLength(2)
  })
})
