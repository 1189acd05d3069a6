import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const run = { cwd }
const long = new Date(2001, 1, 1)

/** Every file of the folder: what it holds, and when it was changed. */
function state(): Record<string, string> {
  return Object.fromEntries(
    readdirSync(cwd).map((name) => {
      const path = join(cwd, name)
      const { mtimeMs } = statSync(path)
      return [name, `${mtimeMs} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`]
    }),
  )
}

const start = new Map<string, Buffer>()

beforeAll(async () => {
  writeFileSync(join(cwd, 'base.raw'), Buffer.alloc(1 << 20, 'base'))
  writeFileSync(join(cwd, 'other.raw'), Buffer.alloc(1 << 20, 'other'))
  await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'top.qcow2', '2M'], run)
  await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'full.qcow2', '2M'], run)
  await mustImg(['convert', '-O', 'qcow2', 'base.raw', 'disk.qcow2'], run)
  await mustImg(['convert', '-O', 'qcow2', 'base.raw', 'snap.qcow2'], run)
  await mustImg(['snapshot', '-c', 'one', 'snap.qcow2'], run)
  await mustImg(['bitmap', '--add', 'disk.qcow2', 'b'], run)
  await mustImg(['bitmap', '--add', '--disable', 'disk.qcow2', 'c'], run)
  await mustImg(['dd', '-f', 'raw', '-O', 'raw', 'if=other.raw', 'of=part.raw', 'bs=64k', 'count=1'], run)
  await mustImg(['convert', '-n', '-O', 'qcow2', 'part.raw', 'full.qcow2'], run)
  await mustImg(['convert', '-n', '-O', 'qcow2', 'part.raw', 'disk.qcow2'], run)
  const volumes = ['-o', 'partition=gpt,extent_size=64k', '--lv', 'root=1M']
  await mustImg(['create', '-q', '-f', 'lvm', ...volumes, 'lv.raw', '5M'], run)
  for (const name of readdirSync(cwd)) start.set(name, readFileSync(join(cwd, name)))
})

beforeEach(() => {
  for (const name of readdirSync(cwd)) rmSync(join(cwd, name))
  for (const [name, bytes] of start) {
    writeFileSync(join(cwd, name), bytes)
    utimesSync(join(cwd, name), long, long)
  }
})

/** Command lines that change or make something, with what the dry run of each says. */
const changes: readonly (readonly [readonly string[], RegExp])[] = [
  [['resize', 'disk.qcow2', '+1M'], /^Image would be resized from 1 MiB to 2 MiB \(2097152 bytes\)\.\n/],
  [
    ['resize', '--shrink', '-f', 'raw', 'base.raw', '512k'],
    /the file would shrink from 1 MiB to 512 KiB\.\n/,
  ],
  [['resize', '--preallocation=full', '-f', 'raw', 'base.raw', '2M'], /from 1 MiB to 2 MiB/],
  [
    ['rebase', '-b', 'other.raw', '-F', 'raw', 'top.qcow2'],
    /^The backing file would be 'other.raw', of format raw\.\n1 MiB would be copied/,
  ],
  [['rebase', '-b', '', 'top.qcow2'], /^The image would have no backing file any more\.\n1 MiB/],
  [['rebase', '-u', '-b', 'other.raw', '-F', 'raw', 'top.qcow2'], /^The backing file would be 'other.raw'/],
  [
    ['commit', 'full.qcow2'],
    /^64 KiB would be copied from full\.qcow2 into base\.raw\.\nbase\.raw would grow/,
  ],
  [['commit', '-d', 'full.qcow2'], /full\.qcow2 would stay as it is\.\n/],
  [['amend', '-o', 'lazy_refcounts=on', 'disk.qcow2'], /^Option lazy_refcounts would be set: on\n/],
  [['bitmap', '--add', 'disk.qcow2', 'd'], /^Bitmap 'd' would be added\.\n/],
  [['bitmap', '--remove', 'disk.qcow2', 'b'], /^Bitmap 'b' would be removed\.\n/],
  [
    ['bitmap', '--disable', '--clear', 'disk.qcow2', 'b'],
    /^Bitmap 'b' would be disabled\.\nBitmap 'b' would be/,
  ],
  [['bitmap', '--enable', 'disk.qcow2', 'c'], /^Bitmap 'c' would be enabled\.\n/],
  [['bitmap', '--merge', 'b', 'disk.qcow2', 'c'], /^Bitmap 'b' would be merged into 'c'\.\n/],
  [['snapshot', '-c', 'two', 'snap.qcow2'], /^Snapshot 'two' would be created\.\n/],
  [['snapshot', '-a', 'one', 'snap.qcow2'], /^Snapshot 'one' would be applied\.\n/],
  [['snapshot', '-d', 'one', 'snap.qcow2'], /^Snapshot 'one' would be deleted\.\n/],
  [
    ['resize', '-f', 'raw', '--lv', 'vg0/root', 'lv.raw', '+1M'],
    /^Image would be resized from 5 MiB to 6 MiB \(6291456 bytes\)\.\nPartition 1 would grow from .*\nPhysical volume pv0 would grow from .*\nVolume vg0\/root would grow from 1 MiB to .*\nlv\.raw: .* would be written; the file would grow from 5 MiB to 6 MiB\.\n/,
  ],
  [
    ['resize', '-f', 'raw', '--partition', 'last', 'lv.raw', '+1M'],
    /^Image would be .*\nPartition 1 would grow from 3 MiB to .*\nlv\.raw: /,
  ],
  [['lvm', 'create', 'lv.raw', 'data', '128k'], /^Would be done: Volume vg0\/data created/],
  [
    ['create', '-f', 'lvm', '--lv', 'root,from=base.raw', '--lv', 'swap=8M', 'new.raw'],
    /^new\.raw would be made, a disk of 13 MiB \(13631488 bytes\)\.\nVolume root would be made: 4 MiB \(4194304 bytes\), with the content of base\.raw\.\nVolume swap would be made: 8 MiB/,
  ],
  [
    ['create', '-f', 'lvm', '--pv', 'second.raw,size=8M', '--lv', 'all=100%FREE', 'base.raw', '16M'],
    /^base\.raw would be replaced by a disk of 16 MiB .*\nsecond\.raw would be made, a disk of 8 MiB .*\nVolume all would be made: 16 MiB/,
  ],
  [['compact', 'disk.qcow2'], /^Image would be compacted\.\n/],
  [['create', '-f', 'qcow2', 'new.qcow2', '1G'], /\nnew\.qcow2 would be made, a file of 256 KiB\.\n/],
  [['create', 'base.raw', '3M'], /\nbase\.raw would be replaced by a file of 3 MiB\.\n/],
  [
    ['create', '-f', 'qcow2', '-o', 'data_file=new.data', 'new.qcow2', '1M'],
    /\nnew\.qcow2 would be made, a file of /,
  ],
  [
    ['convert', '-O', 'qcow2', 'base.raw', 'new.qcow2'],
    /^new\.qcow2 would be made: a disk of 1 MiB, format qcow2\.\nIt would take [\d.]+ MiB \(\d+ bytes\)\.\n/,
  ],
  [['convert', '-O', 'vmdk', 'base.raw', 'new.vmdk'], /^new\.vmdk would be made: a disk of 1 MiB/],
  [['convert', '-n', '-O', 'qcow2', 'base.raw', 'disk.qcow2'], /^disk\.qcow2: what its disk holds would be/],
]

describe('--dry-run', () => {
  it.each(changes)('%j', async ([verb = '', ...args], expected) => {
    const before = state()
    const stdout = await mustImg([verb, '--dry-run', ...args], run)
    expect(stdout).toMatch(expected)
    expect(stdout).toMatch(/\nNothing was changed \(--dry-run\)\.\n$/)
    expect(state()).toEqual(before)
    // What it said can be done.
    await mustImg([verb, ...args], run)
    expect(state()).not.toEqual(before)
  })

  it.each([
    [['resize', 'disk.qcow2', '512k'], 'Use the --shrink option'],
    [['resize', '-f', 'raw', 'no.raw', '512k'], 'No such file'],
    [['snapshot', '-d', 'no', 'disk.qcow2'], 'snapshot not found'],
    [['bitmap', '--add', 'disk.qcow2', 'b'], 'Bitmap already exists'],
    [['bitmap', '--dirty', 'disk.qcow2', 'b'], '--dry-run is for what changes'],
    [['amend', '-o', 'compat=0.10,refcount_bits=8', 'disk.qcow2'], 'img: '],
    [['amend', '-o', 'backing_file=x', '-f', 'raw', 'base.raw'], 'does not support option amendment'],
    [['create', '-f', 'qcow2', '-o', 'cluster_size=3', 'new.qcow2', '1M'], 'img: '],
    [['create', 'no/new.raw', '1M'], 'img: no/new.raw'],
    [['convert', '-O', 'qcow2', 'base.raw', 'no/new.qcow2'], 'img: no/new.qcow2'],
    [['convert', '-O', 'raw', 'base.raw', 'base.raw'], 'it is the source'],
    [['create', '-f', 'lvm', '--lv', 'root=8M', 'new.raw', '4M'], 'img: new.raw: '],
    [['create', '-f', 'lvm', '--lv', 'root=8M,from=no.raw', 'new.raw'], 'no.raw'],
    [['resize', '-f', 'raw', '--lv', 'vg0/no', 'lv.raw', '+1M'], 'there is no logical volume no'],
    [['resize', '-f', 'raw', '--partition', '7', 'lv.raw', '+1M'], '7'],
    [['commit', 'disk.qcow2'], 'does not have a backing file'],
  ])('refuses what would be refused: %j', async ([verb = '', ...args], message) => {
    const before = state()
    const { code, stderr } = await img([verb, '--dry-run', ...args], run)
    expect(stderr).toContain(message)
    expect(code).toBe(1)
    expect(state()).toEqual(before)
  })

  it('says nothing with -q', async () => {
    expect(await mustImg(['resize', '-q', '--dry-run', 'disk.qcow2', '+1M'], run)).toBe('')
    expect(await mustImg(['snapshot', '-q', '--dry-run', '-c', 'x', 'disk.qcow2'], run)).toBe('')
    expect(await mustImg(['compact', '-q', '--dry-run', 'disk.qcow2'], run)).toBe('')
  })
})
