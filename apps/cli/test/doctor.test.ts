import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'
import { makeDisk } from './support/content.js'
import { fixtures, hasFixtures, unpack } from './support/fixtures.js'
import { hasQemu } from './support/qemu.js'

const cwd = temporaryDirectory()
const run = { cwd }
const secret = join(temporaryDirectory(), 'secret.raw')

interface Report {
  readonly format?: string
  readonly recognised: string
  readonly signature?: { readonly offset: number; readonly hex: string }
  readonly plugin?: { readonly name: string; readonly path: string }
  readonly readable?: boolean
  readonly encrypted?: boolean
  readonly partitionTable?: string
  readonly references: readonly Record<string, unknown>[]
  readonly content: readonly Record<string, unknown>[]
  readonly findings: readonly { level: string; id: string; message: string; hint?: string }[]
  readonly verdict: string
}

async function doctor(args: readonly string[], code: number): Promise<Report> {
  const outcome = await img(['doctor', '--output=json', ...args], run)
  expect([outcome.code, outcome.stderr]).toEqual([code, ''])
  return JSON.parse(outcome.stdout) as Report
}

const ids = ({ findings }: Report): string[] => findings.map(({ level, id }) => `${level} ${id}`)

/** A copy of a file with some bytes changed. */
function patched(from: string, to: string, at: number, bytes: Uint8Array | readonly number[]): void {
  const file = readFileSync(join(cwd, from))
  file.set(bytes, at)
  writeFileSync(join(cwd, to), file)
}

beforeAll(async () => {
  makeDisk(join(cwd, 'disk.raw'), 1_048_576)
  writeFileSync(secret, 'a secret')
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], run)
})

describe('img doctor', () => {
  it('tells of a healthy image what it is, by what it is known and what reads it', async () => {
    const report = await doctor(['disk.qcow2'], 0)
    expect(report).toMatchObject({
      format: 'qcow2',
      recognised: 'signature',
      signature: { offset: 0, hex: '514649fb' },
      readable: true,
      verdict: 'healthy',
      references: [],
      findings: [],
    })
    expect(report.plugin?.name).toMatch(/qcow2$/)
    const { stdout } = await img(['doctor', 'disk.qcow2'], run)
    expect(stdout).toMatch(/^disk\.qcow2:\n {2}what {7}qcow2 \(.*\), by 51 46 49 fb at byte 0\n/)
    expect(stdout).toMatch(/\nnothing wrong was found\n$/)
  })

  it('looks at the disk of a package that is named, and at no other', async () => {
    await mustImg(['convert', '-O', 'ova', 'disk.qcow2', 'disk.qcow2', 'two.ova'], run)
    const unnamed = await doctor(['two.ova'], 0)
    expect([unnamed.readable, unnamed.content]).toEqual([false, []])
    const named = await doctor(['--open', 'disk=2', 'two.ova'], 0)
    expect([named.format, named.readable]).toEqual(['ova', true])
    const lost = await doctor(['--open', 'disk=3', 'two.ova'], 2)
    expect(lost.findings.map(({ message }) => message).join()).toContain('disk')
    const unknown = await img(['doctor', '--open', 'nothing=1', 'two.ova'], run)
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("option 'nothing'")])
  })

  it('writes nothing', async () => {
    const before = readFileSync(join(cwd, 'disk.qcow2'))
    await doctor(['disk.qcow2'], 0)
    expect(readFileSync(join(cwd, 'disk.qcow2')).equals(before)).toBe(true)
  })

  it('cannot look at a file that is not there, at a directory, and at two files', async () => {
    for (const args of [['none.qcow2'], ['.'], ['disk.qcow2', 'disk.raw'], []]) {
      const { code, stdout, stderr } = await img(['doctor', ...args], run)
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(/^img: /)
    }
  })
})

describe('a reference', () => {
  it('that the gate lets pass is found, with the format that is recorded', async () => {
    await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'top.qcow2'], run)
    const report = await doctor(['top.qcow2'], 0)
    expect(report.references).toEqual([
      {
        kind: 'backing',
        name: 'disk.qcow2',
        from: 'top.qcow2',
        format: 'qcow2',
        formatFrom: 'recorded',
        state: 'found',
        path: 'disk.qcow2',
      },
    ])
  })

  it('whose format is not recorded is a risk', async () => {
    // qcow has no place for it.
    await mustImg(['create', '-q', '-f', 'qcow', '-b', 'disk.qcow2', '-F', 'qcow2', 'loose.qcow', '1M'], run)
    expect(ids(await doctor(['loose.qcow'], 3))).toContain('risk backing-format-guessed')
  })

  it('out of the directory is not opened, and whether it is there is not told', async () => {
    for (const name of [secret, `${secret}.none`, '/etc/passwd']) {
      await mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'raw', 'out.qcow2', '1M'], run)
      const report = await doctor(['out.qcow2'], 3)
      expect(ids(report)).toEqual(['risk reference-outside'])
      expect(report.references).toMatchObject([{ name, state: 'not-opened' }])
      expect(report.readable).toBe(false)
    }
  })

  it('out of the directory is opened where that is allowed', async () => {
    await mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', secret, '-F', 'raw', 'out.qcow2', '1M'], run)
    const report = await doctor(['--allow-ref', 'all', 'out.qcow2'], 0)
    expect(ids(report)).toEqual(['note reference-absolute'])
  })

  it.each(['nbd://host/disk', 'json:{"driver":"raw","file.filename":"disk.raw"}', 'http://host/disk.raw'])(
    'with a protocol is a risk: %s',
    async (name) => {
      await mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'raw', 'far.qcow2', '1M'], run)
      expect(ids(await doctor(['far.qcow2'], 3))).toEqual(['risk reference-protocol'])
    },
  )

  it('to a file that is missing is a problem, and so is a chain in a circle', async () => {
    await mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'gone', '-F', 'raw', 'lost.qcow2', '1M'], run)
    expect(ids(await doctor(['lost.qcow2'], 2))).toEqual(['problem reference-missing'])
    for (const [name, backing] of [
      ['a.qcow2', 'b.qcow2'],
      ['b.qcow2', 'a.qcow2'],
    ] as const) {
      await mustImg(['create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', name, '1M'], run)
    }
    expect(ids(await doctor(['a.qcow2'], 2))).toEqual(['problem chain-loop'])
  })

  it('of an extent is told for each, also where the first is missing', async () => {
    const descriptor = `# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="twoGbMaxExtentFlat"
RW 1 FLAT "gone.raw" 0
RW 1 FLAT "/etc/passwd" 0
RW 1 FLAT "disk.raw" 0
`
    writeFileSync(join(cwd, 'three.vmdk'), descriptor)
    const report = await doctor(['three.vmdk'], 2)
    expect(report.references.map(({ name, state }) => [name, state])).toEqual([
      ['gone.raw', 'missing'],
      ['/etc/passwd', 'not-opened'],
      ['disk.raw', 'found'],
    ])
    expect(ids(report)).toEqual(
      expect.arrayContaining(['problem reference-missing', 'risk reference-outside']),
    )
  })
})

describe('damage', () => {
  it('that cuts the file short is a problem', async () => {
    writeFileSync(join(cwd, 'cut.qcow2'), readFileSync(join(cwd, 'disk.qcow2')).subarray(0, 400_000))
    expect((await doctor(['cut.qcow2'], 2)).verdict).toBe('damaged')
    expect(ids(await doctor(['--no-check', 'cut.qcow2'], 2))).toContain('problem truncated')
  })

  it('is told of a bit that marks the image corrupt, or not closed', async () => {
    patched('disk.qcow2', 'corrupt.qcow2', 79, [2])
    expect(ids(await doctor(['corrupt.qcow2'], 2))).toContain('problem marked-corrupt')
    patched('disk.qcow2', 'dirty.qcow2', 79, [1])
    expect(ids(await doctor(['dirty.qcow2'], 2))).toContain('problem not-closed')
  })

  it('is an unknown feature that has to be understood; of others there is a note', async () => {
    patched('disk.qcow2', 'future.qcow2', 72, [0x80])
    expect(ids(await doctor(['future.qcow2'], 2))).toEqual(['problem unsupported'])
    patched('disk.qcow2', 'later.qcow2', 80, [0x80])
    expect(ids(await doctor(['later.qcow2'], 0))).toEqual(['note unknown-compatible-features'])
  })

  it('is a header that the name promises and that is not there', async () => {
    patched('disk.qcow2', 'wiped.qcow2', 0, new Uint8Array(512))
    expect(ids(await doctor(['wiped.qcow2'], 2))).toEqual(['problem header-missing', 'risk raw-guessed'])
  })
})

describe('a file of another kind', () => {
  it.each([
    ['vhdx', Buffer.from('vhdxfile')],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0)],
    ['web page', Buffer.from('<!DOCTYPE html><html></html>')],
  ])('is called by its name: %s', async (name, bytes) => {
    writeFileSync(join(cwd, 'other'), Buffer.concat([bytes, Buffer.alloc(4096)]))
    const report = await doctor(['other'], 2)
    expect([report.format, ids(report)]).toEqual([name, ['problem no-plugin']])
  })

  it('that is empty is a risk, and so is one that nothing knows', async () => {
    writeFileSync(join(cwd, 'empty'), '')
    expect(ids(await doctor(['empty'], 3))).toEqual(['risk empty-file'])
    writeFileSync(join(cwd, 'noise'), Buffer.alloc(4096, 0x42))
    expect(ids(await doctor(['noise'], 3))).toEqual(['risk raw-guessed'])
  })

  it('whose plugin is not installed says which package to install', async () => {
    const file = join(cwd, 'disk.qcow2')
    // In this process, as a registry without plugins is what is to be seen.
    const { createRegistry, memoryStorage } = await import('@img/core')
    const { identify } = await import('../src/doctor/identify.js')
    const report = {
      file: 'x',
      kind: 'file' as const,
      fileSize: 1,
      details: [],
      references: [],
      content: [],
      findings: [],
    }
    const context = {
      registry: async () => createRegistry(),
      plugins: async () => [],
    } as unknown as Parameters<typeof identify>[3]
    expect(await identify(memoryStorage(readFileSync(file)), undefined, report, context)).toBe(undefined)
    expect(report).toMatchObject({
      format: 'qcow2',
      install: expect.stringMatching(/qcow2$/),
      findings: [{ level: 'problem', id: 'plugin-missing' }],
    })
  })
})

describe('what the guest has on its disk', () => {
  it('is a risk where it is the header of another image', async () => {
    await mustImg(['convert', '-f', 'raw', '-O', 'vdi', 'disk.qcow2', 'nested.vdi'], run)
    const report = await doctor(['nested.vdi'], 3)
    expect(ids(report)).toEqual(['risk image-inside'])
    expect(ids(await doctor(['-f', 'raw', 'disk.qcow2'], 3))).toEqual(['risk image-inside'])
  })

  const mkfs =
    spawnSync('mkfs.ext4', ['-V']).error === undefined && spawnSync('sfdisk', ['-v']).error === undefined

  it.skipIf(!mkfs)(
    'is told: partitions and file systems (skipped without sfdisk and mkfs.ext4)',
    async () => {
      const path = join(cwd, 'parts.raw')
      writeFileSync(path, Buffer.alloc(12 << 20))
      const input = 'label: gpt\nstart=2048, size=8192, name="boot"\nstart=10240, size=4096\n'
      expect(spawnSync('sfdisk', ['--quiet', path], { input }).status).toBe(0)
      spawnSync('mkfs.ext4', ['-q', '-F', '-L', 'root', '-E', 'offset=1048576', path, '4096k'])
      await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'parts.raw', 'parts.qcow2'], run)
      const report = await doctor(['parts.qcow2'], 0)
      expect(report.partitionTable).toBe('gpt')
      expect(report.content).toMatchObject([
        { part: 1, offset: 1 << 20, size: 4 << 20, name: 'boot', holds: 'ext4', label: 'root' },
        { part: 2, offset: 5 << 20, size: 2 << 20 },
      ])
    },
  )
})

it('an encrypted disk is looked into where the passphrase is given, and nobody is asked for it', async () => {
  writeFileSync(join(cwd, 'key'), 'open sesame')
  const make = ['create', '-q', '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.iter-time=10']
  await mustImg([...make, '--passphrase-file', 'key', 'locked.qcow2', '1M'], run)
  const shut = await doctor(['locked.qcow2'], 0)
  expect([shut.encrypted, shut.readable, ids(shut)]).toEqual([true, false, ['note encrypted']])
  const open = await doctor(['--passphrase-file', 'key', 'locked.qcow2'], 0)
  expect([open.encrypted, open.readable, ids(open)]).toEqual([true, true, []])
})

it('compressed data that would fill the disk of whoever unpacks it is a risk', async () => {
  mkdirSync(join(cwd, 'bomb'), { recursive: true })
  await mustImg(['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M', 'bomb/base.qcow2', '2M'], run)
  // One compressed cluster, of zeros but for its first byte, to which every entry of a large disk then points.
  const block = Buffer.alloc(2 << 20)
  block[0] = 1
  writeFileSync(join(cwd, 'bomb/one.raw'), block)
  const convert = ['convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=2M']
  await mustImg([...convert, 'bomb/one.raw', 'bomb/one.qcow2'], run)
  const file = readFileSync(join(cwd, 'bomb/one.qcow2'))
  const l1 = Number(file.readBigUInt64BE(40))
  const l2 = Number(file.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n)
  const entry = file.readBigUInt64BE(l2)
  const clusters = 1024
  file.writeBigUInt64BE(BigInt(clusters) * 2n ** 21n, 24)
  for (let i = 1; i < clusters; i++) file.writeBigUInt64BE(entry, l2 + 8 * i)
  writeFileSync(join(cwd, 'bomb.qcow2'), file)
  expect(ids(await doctor(['--no-check', 'bomb.qcow2'], 3))).toContain('risk bomb')
})

describe.skipIf(!hasQemu || process.platform !== 'linux')(
  'an image that qemu-io has open (skipped without it)',
  () => {
    let release: () => Promise<void> = () => Promise.resolve()
    beforeAll(async () => {
      await mustImg(['create', '-q', '-f', 'qcow2', 'used.qcow2', '1M'], run)
      const child = spawn('qemu-io', ['-f', 'qcow2', join(cwd, 'used.qcow2')], {
        stdio: ['pipe', 'pipe', 'ignore'],
      })
      await new Promise((resolve) => child.stdout.once('data', resolve))
      release = async () => {
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.kill()
        await ended
      }
    })
    afterAll(() => release())

    it('is examined all the same, and that it is in use is told', async () => {
      expect(ids(await doctor(['used.qcow2'], 0))).toEqual(['note in-use'])
    })
  },
)

it('names with control characters do not reach the terminal', async () => {
  await mustImg(
    ['create', '-q', '-u', '-f', 'qcow2', '-b', '\u001b[31mred', '-F', 'raw', 'esc.qcow2', '1M'],
    run,
  )
  const { stdout } = await img(['doctor', 'esc.qcow2'], run)
  expect(stdout).toContain('\\u001b[31mred')
  expect(stdout).not.toContain('\u001b')
})

describe.skipIf(!hasFixtures)('on the collection of images', () => {
  const directory = temporaryDirectory()
  const bad = fixtures.filter(({ file, expect: wanted }) => wanted === 'reject' && /^(attack|bad)/.test(file))
  it.each(bad.filter((_, i) => i % 3 === 0).map((fixture) => [fixture.file, fixture] as const))(
    '%s is not called healthy',
    async (file, fixture) => {
      unpack(fixture, directory)
      const { code, stdout, stderr } = await img(['doctor', '--output=json', file], { cwd: directory })
      const { findings } = JSON.parse(stdout) as Report
      // What is only encrypted is healthy: the key is missing.
      if (findings.some(({ id }) => id === 'encrypted')) expect(code).toBe(0)
      else expect([2, 3]).toContain(code)
      expect(stderr).toBe('')
    },
  )
})
