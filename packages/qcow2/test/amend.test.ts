import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type DiskImage, openImage } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, must, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import { inDirectory, openAt } from './support/on-disk.js'
import { PowerStorage } from './support/power.js'
import { besides } from './support/write-run.js'

const KB = 1024

const open = (dir: string, writable?: boolean): Promise<DiskImage> =>
  openAt(join(dir, 'disk.qcow2'), writable)

async function amend(
  dir: string,
  options: Record<string, unknown>,
  context: { force?: boolean } = {},
): Promise<void> {
  const disk = await open(dir)
  try {
    await disk.amend?.(options, context)
  } finally {
    await disk.close()
  }
}

function info(dir: string): Record<string, unknown> {
  const told = JSON.parse(must('qemu-img', 'info', '-U', '--output=json', join(dir, 'disk.qcow2')))
  return { ...told['format-specific'].data, size: told['virtual-size'] }
}

function seen(dir: string): Buffer {
  const out = join(dir, 'seen.raw')
  rmSync(out, { force: true })
  must('qemu-img', 'convert', '-O', 'raw', join(dir, 'disk.qcow2'), out)
  return readFileSync(out)
}

interface Made {
  readonly options: string
  readonly backing?: boolean
  readonly snapshots?: boolean
}

/** An image with data, compressed clusters, zero clusters with and without room, and snapshots. */
function make(dir: string, { options, backing = false, snapshots = false }: Made, next: () => number): void {
  const path = join(dir, 'disk.qcow2')
  const size = 1000 * KB
  const below: string[] = []
  if (backing) {
    writeFileSync(join(dir, 'base.raw'), patternDisk(700 * KB, 5))
    below.push('-b', 'base.raw', '-F', 'raw')
  }
  must('qemu-img', 'create', '-q', '-f', 'qcow2', ...below, '-o', options, path, `${size}`)
  const scribble = (): void => {
    const commands: string[] = []
    for (let i = 0; i < 10; i++) {
      const offset = Math.floor((next() * size) / 512) * 512
      const length = Math.min(size - offset, 512 * (1 + Math.floor(next() ** 2 * 500)))
      const kind = next() < 0.25 ? '-z' : next() < 0.4 ? '-z -u' : `-P ${1 + Math.floor(next() * 254)}`
      commands.push('-c', `write ${kind} ${offset} ${length}`)
    }
    must('qemu-io', '-f', 'qcow2', ...commands, path)
  }
  scribble()
  if (!snapshots) return
  must('qemu-img', 'snapshot', '-c', 'one', path)
  scribble()
  must('qemu-img', 'snapshot', '-c', 'two', path)
  must('qemu-io', '-f', 'qcow2', '-c', `write -z 0 ${size}`, path)
  must('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 100k 300k', path)
}

/** Content of the disk and of its snapshots. */
async function everything(dir: string): Promise<Buffer[]> {
  const disk = await open(dir, false)
  const found = [Buffer.from(await content(disk))]
  for (const { id } of (await disk.snapshots?.list()) ?? []) {
    const snapshot = await disk.snapshots?.open(id)
    if (snapshot) found.push(Buffer.from(await content(snapshot)))
  }
  await disk.close()
  return found
}

const seed = Number(process.env.IMG_TEST_SEED ?? 2718)

describe.skipIf(!hasQemu)('amend (skipped without qemu-img)', () => {
  const kinds: readonly Made[] = [
    { options: 'compat=1.1' },
    { options: 'compat=1.1,cluster_size=4k', backing: true },
    { options: 'compat=1.1,cluster_size=16k', snapshots: true },
    { options: 'compat=1.1,cluster_size=512', backing: true, snapshots: true },
    { options: 'compat=1.1,cluster_size=2M', backing: true },
  ]

  it.each(kinds)('changes the version both ways, and nothing else: %o', async (kind) => {
    await inDirectory(async (dir) => {
      make(dir, kind, random(seed))
      const before = await everything(dir)
      for (const [value, told] of [
        ['0.10', '0.10'],
        ['1.1', '1.1'],
        ['v2', '0.10'],
        ['v3', '1.1'],
      ] as const) {
        await amend(dir, { compat: value })
        expect(info(dir).compat).toBe(told)
        assertClean('qcow2', join(dir, 'disk.qcow2'))
        expect(Buffer.compare(seen(dir), before[0] as Buffer)).toBe(0)
        expect((await everything(dir)).map((bytes, i) => Buffer.compare(bytes, before[i] as Buffer))).toEqual(
          before.map(() => 0),
        )
        must('qemu-img', 'amend', '-f', 'qcow2', '-o', 'compat=1.1', join(dir, 'disk.qcow2'))
      }
    })
  })

  it.each(kinds)('rebuilds refcounts of every width: %o', async (kind) => {
    await inDirectory(async (dir) => {
      make(dir, kind, random(seed + 1))
      const before = await everything(dir)
      const widths = kind.snapshots ? [2, 4, 8, 32, 64, 16] : [1, 64, 2, 32, 4, 8, 16]
      for (const bits of widths) {
        const disk = await open(dir)
        await disk.amend?.({ refcount_bits: `${bits}` })
        // The same disk goes on with them.
        const at = bits * 512
        await disk.write?.(at, new Uint8Array(3000).fill(bits))
        before[0]?.fill(bits, at, at + 3000)
        await disk.close()
        expect(info(dir)['refcount-bits']).toBe(bits)
        assertClean('qcow2', join(dir, 'disk.qcow2'))
        expect(Buffer.compare(seen(dir), before[0] as Buffer), `${bits} bits`).toBe(0)
      }
      expect((await everything(dir)).map((bytes, i) => Buffer.compare(bytes, before[i] as Buffer))).toEqual(
        before.map(() => 0),
      )
    })
  })

  it('refuses a width that a refcount does not fit, and changes nothing', async () => {
    await inDirectory(async (dir) => {
      make(dir, { options: 'compat=1.1', snapshots: true }, random(seed))
      const before = readFileSync(join(dir, 'disk.qcow2'))
      await expect(amend(dir, { refcount_bits: 1 })).rejects.toThrow(
        /Cannot decrease refcount entry width to 1 bits: Cluster at offset 0x\w+ .* has a refcount of [23]/,
      )
      expect(Buffer.compare(readFileSync(join(dir, 'disk.qcow2')), before)).toBe(0)
    })
  })

  it('sets and clears lazy refcounts, and the size', async () => {
    await inDirectory(async (dir) => {
      make(dir, { options: 'compat=0.10', backing: true }, random(seed))
      const before = (await everything(dir))[0] as Buffer
      await amend(dir, { compat: '1.1', lazy_refcounts: 'on', refcount_bits: 8, size: '2M' })
      expect(info(dir)).toMatchObject({
        compat: '1.1',
        'lazy-refcounts': true,
        'refcount-bits': 8,
        size: 2048 * KB,
      })
      expect(Buffer.compare(seen(dir).subarray(0, 1000 * KB), before)).toBe(0)
      await amend(dir, { lazy_refcounts: 'off' })
      expect(info(dir)['lazy-refcounts']).toBe(false)
      await expect(amend(dir, { size: '500k' })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
      await amend(dir, { size: '500k' }, { force: true })
      expect(Buffer.compare(seen(dir), before.subarray(0, 500 * KB))).toBe(0)
      assertClean('qcow2', join(dir, 'disk.qcow2'))
    })
  })

  it('names another data file, and gives up that it is a raw image', async () => {
    await inDirectory(async (dir) => {
      const path = join(dir, 'disk.qcow2')
      must(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-o',
        `data_file=${dir}/data.raw,data_file_raw=on`,
        path,
        '1M',
      )
      must('qemu-io', '-c', 'write -P 3 0 100k', path)
      must(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-u',
        '-b',
        'x',
        '-F',
        'raw',
        join(dir, 'y.qcow2'),
        '1M',
      )
      const disk = await openImage(new FileStorage(path, { flags: 'r+' }), {
        registry,
        format: 'qcow2',
        writable: true,
        references: {
          open: async () => ({ storage: new FileStorage(join(dir, 'data.raw'), { flags: 'r+' }) }),
        },
      })
      await expect(disk.amend?.({ compat: '0.10' })).rejects.toThrow(
        'Cannot downgrade an image with a data file',
      )
      await disk.amend?.({ data_file_raw: 'off' })
      copyFileSync(join(dir, 'data.raw'), join(dir, 'moved.raw'))
      await disk.amend?.({ data_file: `${dir}/moved.raw` })
      await disk.close()
      expect(info(dir)).toMatchObject({ 'data-file': `${dir}/moved.raw`, 'data-file-raw': false })
      assertClean('qcow2', path)
    })
  })

  it('takes snapshots with VM state to version 2, unless the state is too large for it', async () => {
    await inDirectory(async (dir, path) => {
      for (const [vmState, fits] of [
        [0xffff_ffff, true],
        [0x1_0000_0000, false],
      ] as const) {
        make(dir, { options: 'compat=1.1' }, random(seed))
        must('qemu-img', 'snapshot', '-c', 'one', path)
        const bytes = readFileSync(path)
        const entry = Number(bytes.readBigUInt64BE(64))
        bytes.writeUInt32BE(fits ? vmState : 0, entry + 32)
        bytes.writeBigUInt64BE(BigInt(vmState), entry + 40)
        writeFileSync(path, bytes)
        const before = seen(dir)
        const done = amend(dir, { compat: '0.10' })
        if (fits) await done
        else await expect(done).rejects.toThrow('Internal snapshots prevent downgrade of image')
        expect(info(dir)).toMatchObject({ compat: fits ? '0.10' : '1.1' })
        expect(seen(dir).equals(before)).toBe(true)
        assertClean('qcow2', path)
        const disk = await open(dir, false)
        expect(await disk.snapshots?.list()).toMatchObject([{ name: 'one', vmStateSize: vmState }])
        await disk.close()
      }
    })
  })

  it('refuses what QEMU refuses, in its words', async () => {
    await inDirectory(async (dir) => {
      make(dir, { options: 'compat=1.1', backing: true, snapshots: true }, random(seed))
      const before = readFileSync(join(dir, 'disk.qcow2'))
      for (const [options, message] of [
        [{ refcount_bits: 3 }, 'Refcount width must be a power of two and may not exceed 64 bits'],
        [
          { refcount_bits: 8, compat: '0.10' },
          'Refcount widths other than 16 bits require compatibility level 1.1',
        ],
        [
          { lazy_refcounts: true, compat: '0.10' },
          'Lazy refcounts only supported with compatibility level 1.1',
        ],
        [{ data_file: 'x' }, 'data-file can only be set for images that use an external data file'],
        [{ data_file_raw: true }, 'data-file-raw cannot be set on existing images'],
        [{ backing_file: 'x' }, 'Cannot amend the backing file'],
        [{ compat: '9' }, 'Unknown compatibility level 9'],
        [{ size: 3000001 }, 'The new size must be a multiple of 512'],
        [{ 'encrypt.state': 'active' }, "Can't amend encryption options - encryption not present"],
        [{ cluster_size: 4096 }, "Invalid parameter 'cluster_size'"],
        [{ size: 2048 * KB, compat: '0.10' }, 'Internal snapshots prevent downgrade of image'],
      ] as const) {
        await expect(amend(dir, options)).rejects.toThrow(message)
      }
      expect(Buffer.compare(readFileSync(join(dir, 'disk.qcow2')), before)).toBe(0)
      must('qemu-img', 'bitmap', '--add', join(dir, 'disk.qcow2'), 'b')
      await expect(amend(dir, { compat: '0.10' })).rejects.toThrow('Persistent bitmaps prevent downgrade')
      for (const [options, bits] of [
        ['extended_l2=on', '0x10'],
        ['compression_type=zstd', '0x8'],
      ] as const) {
        must('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, join(dir, 'disk.qcow2'), '1M')
        await expect(amend(dir, { compat: '0.10' })).rejects.toThrow(`incompatible features ${bits} set`)
      }
    })
  })

  it('leaves the image whole wherever the power is cut', async () => {
    await inDirectory(async (dir) => {
      const next = random(seed + 3)
      for (const kind of [
        { options: 'compat=1.1,cluster_size=4k', snapshots: true },
        { options: 'compat=1.1,cluster_size=512', snapshots: true, backing: true },
      ]) {
        make(dir, kind, next)
        const path = join(dir, 'disk.qcow2')
        const before = await everything(dir)
        const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
        const references = besides(dir)
        const disk = await openImage(storage, { registry, format: 'qcow2', writable: true, references })
        await disk.amend?.({ refcount_bits: 32 })
        await disk.amend?.({ refcount_bits: 16, compat: '0.10' })
        await disk.amend?.({ compat: '1.1' })
        await disk.close()
        const barriers = storage.events.flatMap(({ kind: what }, at) =>
          what === 'flush' && at > 2 ? [at] : [],
        )
        for (let i = 0; i < 16; i++) {
          const at = (barriers[Math.floor(next() * barriers.length)] as number) - Math.floor(next() * 3)
          const share = next()
          const file = storage.after(at, () => next() < share)
          writeFileSync(path, file)
          const { status, stdout } = run('qemu-img', 'check', '-f', 'qcow2', path)
          const what = `seed ${seed}, cut at ${at} of ${storage.events.length}, ${share} survives`
          expect(status === 0 || status === 3, `${what}: qemu-img check ${status}\n${stdout}`).toBe(true)
          const found = await openImage(new MemoryStorage(file), { registry, format: 'qcow2', references })
          expect(Buffer.compare(await content(found), before[0] as Buffer), what).toBe(0)
        }
        rmSync(path)
      }
    })
  })
})
