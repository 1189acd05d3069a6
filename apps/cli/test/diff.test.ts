import { copyFileSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, runProgram, temporaryDirectory } from './support/cli.js'
import { makeDisk } from './support/content.js'
import { hasQemu } from './support/qemu.js'

const cwd = temporaryDirectory()
const run = { cwd }
const size = 1_048_576
let before: Uint8Array
let after: Uint8Array

interface Told {
  readonly base: { readonly 'virtual-size': number; readonly snapshot?: string; readonly sha256?: string }
  readonly target: Told['base']
  readonly extents: readonly { start: number; length: number; zero: boolean; data: boolean }[]
  readonly 'changed-bytes': number
  readonly identical: boolean
}

async function told(args: readonly string[], code = 1): Promise<Told> {
  const outcome = await img(['diff', '--output=json', ...args], run)
  expect([outcome.code, outcome.stderr]).toEqual([code, ''])
  return JSON.parse(outcome.stdout) as Told
}

const places = ({ extents }: Told): [number, number][] => extents.map(({ start, length }) => [start, length])

beforeAll(async () => {
  before = makeDisk(join(cwd, 'before.raw'), size)
  after = Uint8Array.from(before)
  after.fill(0x5a, 70_000, 70_100)
  after.fill(0, 524_288, 655_360)
  after[size - 1] = (after[size - 1] as number) ^ 0xff
  writeFileSync(join(cwd, 'after.raw'), after)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'before.raw', 'before.qcow2'], run)
  await mustImg(['convert', '-f', 'raw', '-O', 'vdi', 'after.raw', 'after.vdi'], run)
})

/** The same from the bytes, in sectors. */
function wanted(): [number, number][] {
  const found: [number, number][] = []
  for (let at = 0; at < size; at += 512) {
    if (Buffer.compare(before.subarray(at, at + 512), after.subarray(at, at + 512)) === 0) continue
    const last = found[found.length - 1]
    if (last !== undefined && last[0] + last[1] === at) last[1] += 512
    else found.push([at, 512])
  }
  return found
}

describe('diff', () => {
  it('tells the same of the same disks in any format', async () => {
    for (const [a, b] of [
      ['before.raw', 'after.raw'],
      ['before.qcow2', 'after.vdi'],
    ] as const) {
      const raw = a.endsWith('.raw') ? ['-f', 'raw', '-F', 'raw'] : []
      const found = await told([...raw, a, b])
      const joined: [number, number][] = []
      for (const [start, length] of places(found)) {
        const last = joined[joined.length - 1]
        if (last !== undefined && last[0] + last[1] === start) last[1] += length
        else joined.push([start, length])
      }
      expect(joined).toEqual(wanted())
      expect(found['changed-bytes']).toBe(wanted().reduce((sum, [, length]) => sum + length, 0))
      expect(found.identical).toBe(false)
    }
    const same = await img(['diff', '-f', 'raw', 'before.raw', 'before.qcow2'], run)
    expect(same).toEqual({ code: 0, stdout: 'Images are identical.\n', stderr: '' })
    expect((await told(['-f', 'raw', 'before.raw', 'before.qcow2'], 0)).extents).toEqual([])
  })

  it('shows a table', async () => {
    const { stdout } = await img(['diff', '--granularity=64k', '-F', 'vdi', 'before.qcow2', 'after.vdi'], run)
    expect(stdout).toMatch(/^Offset {10}Length {10}Content\n0x10000 {9}0x10000 {9}data\n/)
    expect(stdout).toMatch(/\n\d+ bytes \(.*\) in \d extents differ\n$/)
    expect((await img(['diff', '-q', 'before.qcow2', 'after.vdi'], run)).stdout).toBe('')
  })

  it('makes an overlay that holds what differs, and a record by which base and result are known', async () => {
    mkdirSync(join(cwd, 'out'))
    const args = ['--overlay', 'out/change.qcow2', '--checksum', '-F', 'vdi', 'before.qcow2', 'after.vdi']
    const record = await told(args, 0)
    writeFileSync(join(cwd, 'record.json'), JSON.stringify(record))
    const info = await mustImg(['info', '-f', 'qcow2', 'out/change.qcow2'], run)
    expect(info).toMatch(/backing file: \.\.\/before\.qcow2 \(actual path: out\/\.\.\/before\.qcow2\)/)
    // The receiver has the base under another name and in another format.
    const there = temporaryDirectoryOf('there')
    copyFileSync(join(cwd, 'out/change.qcow2'), join(there, 'change.qcow2'))
    copyFileSync(join(cwd, 'before.raw'), join(there, 'base.raw'))
    copyFileSync(join(cwd, 'record.json'), join(there, 'record.json'))
    const at = { cwd: there }
    const verify = ['diff', '--verify', 'record.json']
    expect(await mustImg([...verify, '-f', 'raw', 'base.raw'], at)).toBe('base.raw is the base.\n')
    await mustImg(['rebase', '-u', '-b', 'base.raw', '-F', 'raw', 'change.qcow2'], at)
    expect(await mustImg([...verify, 'change.qcow2'], at)).toBe('change.qcow2 is the target.\n')
    if (hasQemu) {
      copyFileSync(join(cwd, 'after.raw'), join(there, 'after.raw'))
      const args = ['compare', '-f', 'qcow2', '-F', 'raw', 'change.qcow2', 'after.raw']
      expect((await runProgram('qemu-img', args, at)).stdout).toBe('Images are identical.\n')
    }
    await mustImg(['commit', '-q', 'change.qcow2'], at)
    expect(Buffer.compare(readFileSync(join(there, 'base.raw')), after)).toBe(0)
    writeFileSync(join(there, 'base.raw'), before.subarray(0, 1024))
    const wrong = await img([...verify, '-f', 'raw', 'base.raw'], at)
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      "img: base.raw is neither the base nor the target of 'record.json'\n",
    ])
  })

  it('makes an overlay that is smaller or larger than its base', async () => {
    writeFileSync(join(cwd, 'short.raw'), after.subarray(0, 100_352))
    const raw = ['-f', 'raw', '-F', 'raw']
    for (const [a, b] of [
      ['before.raw', 'short.raw'],
      ['short.raw', 'before.raw'],
    ] as const) {
      const found = await told([...raw, '--overlay', 'sized.qcow2', a, b], 0)
      expect([found.base['virtual-size'], found.target['virtual-size']]).toContain(100_352)
      await mustImg(['convert', '-O', 'raw', 'sized.qcow2', 'sized.raw'], run)
      expect(Buffer.compare(readFileSync(join(cwd, 'sized.raw')), readFileSync(join(cwd, b)))).toBe(0)
    }
    const table = await img(['diff', ...raw, 'before.raw', 'short.raw'], run)
    expect(table.stdout).toMatch(
      /Image sizes differ: before\.raw has 1048576 bytes, short\.raw has 100352 bytes\n/,
    )
  })

  it('tells what changed since a snapshot, and between snapshots', async () => {
    copyFileSync(join(cwd, 'before.qcow2'), join(cwd, 'live.qcow2'))
    await mustImg(['snapshot', '-c', 'one', 'live.qcow2'], run)
    await mustImg(['convert', '-n', '-f', 'raw', '-O', 'qcow2', 'after.raw', 'live.qcow2'], run)
    await mustImg(['snapshot', '-c', 'two', 'live.qcow2'], run)
    const now = await told(['-l', 'one', 'live.qcow2'])
    expect(now.base.snapshot).toBe('one')
    expect(now['changed-bytes']).toBe(wanted().reduce((sum, [, length]) => sum + length, 0))
    expect((await told(['-l', 'one', '-L', 'two', 'live.qcow2'])).extents).toEqual(now.extents)
    expect((await told(['-l', 'two', 'live.qcow2'], 0)).extents).toEqual([])
    expect((await told(['--quick', '-l', 'two', 'live.qcow2'], 0)).extents).toEqual([])
    expect((await told(['-f', 'raw', '-L', 'one', 'before.raw', 'live.qcow2'], 0)).identical).toBe(true)
    const overlay = await img(['diff', '--overlay', 'no.qcow2', '-l', 'one', 'live.qcow2'], run)
    expect([overlay.code, overlay.stderr]).toEqual([
      1,
      'img: live.qcow2 cannot be the backing file of an overlay: it is a snapshot\n' +
        'img: hint: name a file that holds the same with --backing FILE --backing-format FORMAT; convert makes one\n',
    ])
    const backing = ['--backing', 'before.raw', '--backing-format', 'raw']
    await told(['--overlay', 'since.qcow2', ...backing, '-l', 'one', 'live.qcow2'], 0)
    await mustImg(['compare', '-F', 'raw', 'since.qcow2', 'after.raw'], run)
  })

  it('reads nothing of what an overlay shares with its base', async () => {
    await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'before.qcow2', '-F', 'qcow2', 'over.qcow2'], run)
    expect((await told(['--quick', 'before.qcow2', 'over.qcow2'], 0)).identical).toBe(true)
  })

  it.skipIf(process.platform === 'win32')('ends with 130 on SIGINT, and leaves nothing', async () => {
    for (const name of ['large1.raw', 'large2.raw']) {
      writeFileSync(join(cwd, name), '')
      truncateSync(join(cwd, name), 64 * 1024 ** 3)
    }
    const names = readdirSync(cwd)
    const args = ['--overlay', 'never.qcow2', '--checksum', '--progress=json']
    const { code, stdout } = await img(
      ['diff', ...args, '-f', 'raw', '-F', 'raw', 'large1.raw', 'large2.raw'],
      {
        cwd,
        onStart: (child) => child.stderr?.once('data', () => child.kill('SIGINT')),
      },
    )
    expect([code, stdout]).toEqual([130, ''])
    expect(readdirSync(cwd)).toEqual(names)
  })

  it.each([
    [['before.qcow2', 'no.raw'], 2, /Could not open 'no\.raw'/],
    [['--granularity=700', 'before.qcow2'], 1, /must be a power of two from 512/],
    [['--overlay', 'before.qcow2', '-F', 'vdi', 'before.qcow2', 'after.vdi'], 1, /it is the source/],
    [['--overlay', 'o.vdi', '-O', 'raw', 'before.qcow2', 'after.vdi'], 1, /Backing file not supported/],
    [['--verify', 'before.raw', 'before.qcow2'], 1, /does not record checksums/],
    [['-l', 'none', 'before.qcow2'], 1, /Can't find snapshot/],
    [[], 1, /Expecting one or two image file names/],
  ] as const)('refuses %j', async (args, code, message) => {
    const outcome = await img(['diff', ...args], run)
    expect(outcome.code).toBe(code)
    expect(outcome.stderr).toMatch(message)
  })
})

function temporaryDirectoryOf(name: string): string {
  const path = join(cwd, name)
  mkdirSync(path)
  return path
}
