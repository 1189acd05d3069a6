import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convert, createWriter, ImageError, type ReferenceResolver } from '@img/core'
import { content, openRaw, patternDisk } from '@tooling/test-disks/disks'
import { assertClean, assertSame, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { afterAll, describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { openQcow2 } from './support/disks.js'

const folder = mkdtempSync(join(tmpdir(), 'qcow2-create-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const references: ReferenceResolver = {
  async open({ name }) {
    return { storage: new FileStorage(name, { flags: 'r' }) }
  },
  async create({ name }) {
    return new FileStorage(name)
  },
}

interface Case {
  readonly options: Record<string, string>
  readonly compress?: boolean
  readonly size?: number
  readonly async?: boolean
}

const megabyte = 1024 * 1024
const sizes = ['512', '4k', '64k', '2M']
const cases: Case[] = [
  ...sizes.flatMap((cluster_size) =>
    ['0.10', '1.1'].flatMap((compat) =>
      [false, true].map((compress) => ({ options: { cluster_size, compat }, compress })),
    ),
  ),
  ...['1', '2', '4', '8', '16', '32', '64'].flatMap((refcount_bits) =>
    ['512', '64k'].flatMap((cluster_size) =>
      [false, true].map((compress) => ({ options: { refcount_bits, cluster_size }, compress })),
    ),
  ),
  ...['metadata', 'falloc', 'full'].flatMap((preallocation) =>
    ['off', 'on'].flatMap((extended_l2) =>
      sizes
        .filter((cluster_size) => extended_l2 === 'off' || !['512', '4k'].includes(cluster_size))
        .map((cluster_size) => ({ options: { preallocation, extended_l2, cluster_size } })),
    ),
  ),
  ...[false, true].map((compress) => ({ options: { extended_l2: 'on', cluster_size: '16k' }, compress })),
  { options: { compression_type: 'zstd' }, compress: true },
  { options: { compression_type: 'zstd', cluster_size: '2M' }, compress: true },
  { options: { compression_type: 'zstd', cluster_size: '512', refcount_bits: '2' }, compress: true },
  { options: { lazy_refcounts: 'on' } },
  { options: { compat: 'v2', preallocation: 'metadata' } },
  { options: {}, size: 0 },
  { options: { preallocation: 'full' }, size: 0 },
  { options: {}, size: 512 },
  { options: { cluster_size: '2M' }, size: 512 },
  { options: {}, size: 1000 },
  { options: { cluster_size: '512' }, size: 3 * megabyte + 77 },
  { options: {}, async: true },
  { options: { preallocation: 'metadata', cluster_size: '512' }, async: true },
  { options: { cluster_size: '512' }, compress: true, async: true },
  ...['off', 'on'].flatMap((data_file_raw) =>
    ['off', 'metadata', 'full'].flatMap((preallocation) =>
      ['off', 'on'].map((extended_l2) => ({
        options: { data_file: 'DATA', data_file_raw, preallocation, extended_l2 },
      })),
    ),
  ),
]

function title({ options, compress, size, async }: Case): string {
  const words = Object.entries(options).map(([name, value]) => `${name}=${value}`)
  if (compress) words.push('-c')
  if (size !== undefined) words.push(`size=${size}`)
  if (async) words.push('(asynchronously)')
  return words.join(' ') || 'defaults'
}

describe('a new image has the content and the structure it should', () => {
  cases.forEach((test, index) => {
    it(title(test), async () => {
      const usual = test.options.cluster_size === '2M' ? 5 : 2
      const { size = usual * megabyte + 1536, compress = false } = test
      const disk = patternDisk(size, index + 1)
      const path = join(folder, `${index}.qcow2`)
      const dataPath = join(folder, `${index}.data`)
      const options = { ...test.options }
      if (options.data_file) options.data_file = dataPath
      await using target = new FileStorage(path, { async: test.async ?? false })
      const writer = await createWriter(qcow2, target, { size, options, compress, references })
      await using source = await openRaw(disk)
      await convert(source, writer)
      await writer.close?.()

      await using image = await openQcow2(target, references)
      const rounded = new Uint8Array(Math.ceil(size / 512) * 512)
      rounded.set(disk)
      expect(Buffer.compare(await content(image), rounded)).toBe(0)

      if (!hasQemu) return
      const rawPath = join(folder, `${index}.raw`)
      writeFileSync(rawPath, disk)
      assertClean('qcow2', path)
      assertSame('qcow2', rawPath, path)
      if (options.data_file_raw === 'on') {
        expect(run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', rawPath, dataPath).status).toBe(0)
      }
      if (size === 0) return
      // The refcounts are right for a writer, too.
      const middle = Math.floor(size / 1024) * 512
      expect(run('qemu-io', '-f', 'qcow2', '-c', `write -P 7 ${middle} 512`, path).stdout).toContain(
        'wrote 512/512',
      )
      assertClean('qcow2', path)
    })
  })
})

describe.skipIf(!hasQemu)('what qemu-img says of a new image', () => {
  for (const { options } of [
    { options: {} },
    { options: { compat: '0.10' } },
    { options: { extended_l2: 'on', lazy_refcounts: 'on', refcount_bits: '64', compression_type: 'zstd' } },
    { options: { cluster_size: '4k' } },
  ] as Case[]) {
    it(title({ options }), async () => {
      const path = join(folder, 'info.qcow2')
      await using target = new FileStorage(path)
      const writer = await createWriter(qcow2, target, { size: 10 * megabyte, options })
      await writer.finish()
      const theirs = join(folder, 'theirs.qcow2')
      const list = Object.entries(options).map(([name, value]) => `${name}=${value}`)
      run('qemu-img', 'create', '-f', 'qcow2', ...(list.length > 0 ? ['-o', list.join()] : []), theirs, '10M')
      const info = (file: string): unknown => {
        const json = JSON.parse(run('qemu-img', 'info', '--output=json', file).stdout)
        return { ...json, filename: '', 'actual-size': 0 }
      }
      expect(info(path)).toEqual(info(theirs))
      await using ours = await openQcow2(target)
      await using other = await openQcow2(new FileStorage(theirs, { flags: 'r' }))
      expect(await ours.info()).toMatchObject({ ...(await other.info()), label: path })
    })
  }
})

describe('options that contradict each other are refused in QEMU’s words', () => {
  const refused: [Record<string, string>, string | RegExp][] = [
    [{ cluster_size: '3000' }, 'Cluster size must be a power of two between 512 and 2048k'],
    [{ cluster_size: '256' }, 'Cluster size must be a power of two between 512 and 2048k'],
    [{ cluster_size: '4M' }, 'Cluster size must be a power of two between 512 and 2048k'],
    [{ compat: '0.10', lazy_refcounts: 'on' }, /^Lazy refcounts only supported with compatibility level 1.1/],
    [{ compat: '0.10', refcount_bits: '8' }, /^Different refcount widths than 16 bits require/],
    [{ refcount_bits: '3' }, 'Refcount width must be a power of two and may not exceed 64 bits'],
    [{ refcount_bits: '128' }, 'Refcount width must be a power of two and may not exceed 64 bits'],
    [{ compat: '0.10', compression_type: 'zstd' }, /^Non-zlib compression type is only supported/],
    [{ compat: '0.10', extended_l2: 'on' }, /^Extended L2 entries are only supported with compatibility/],
    [{ extended_l2: 'on', cluster_size: '8k' }, /cluster sizes of at least 16384 bytes$/],
    [{ data_file_raw: 'on' }, 'data-file-raw requires data-file'],
    [{ compat: '0.10', data_file: 'x' }, /^External data files are only supported with compatibility/],
    [{ backing_file: 'x', preallocation: 'full' }, /can only be used at the same time if extended_l2 is on$/],
    [{ backing_fmt: 'raw' }, 'Backing format cannot be used without backing file'],
    [
      { data_file: 'x', data_file_raw: 'on', backing_file: 'y' },
      'Backing file and data-file-raw cannot be used at the same time',
    ],
    [{ backing_file: 'x'.repeat(1024) }, /^Backing file name too long/],
    [{ backing_file: 'x'.repeat(500), cluster_size: '512' }, /does not fit into one cluster$/],
    [{ compat: '0.9' }, /'compat'/],
    [{ preallocation: 'some' }, /'preallocation'/],
    [{ nonsense: '1' }, "Invalid parameter 'nonsense'"],
  ]
  for (const [options, message] of refused) {
    it(title({ options }).slice(0, 100), async () => {
      const target = new FileStorage(join(folder, 'refused.qcow2'))
      const failed = await createWriter(qcow2, target, { size: megabyte, options, references }).catch(
        (e) => e,
      )
      expect(ImageError.is(failed, 'IMG_BAD_OPTION')).toBe(true)
      expect(failed.message).toEqual(typeof message === 'string' ? message : expect.stringMatching(message))
      expect(target.size).toBe(0)
      await target.close()
    })
  }
})
