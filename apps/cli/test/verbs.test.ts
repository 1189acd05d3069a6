import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory, withoutExtras } from './support/cli.js'
import { makeDisk } from './support/content.js'

const cwd = temporaryDirectory()
let disk: Uint8Array

beforeAll(async () => {
  disk = makeDisk(join(cwd, 'disk.raw'), 655_360)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd })
})

describe('compare', () => {
  const raw = ['compare', '-f', 'raw', '-F', 'raw']

  it('0: the same, in another format, longer by zeros', async () => {
    expect(await img(['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd })).toEqual({
      code: 0,
      stdout: 'Images are identical.\n',
      stderr: '',
    })
    writeFileSync(join(cwd, 'longer.raw'), Buffer.concat([disk, Buffer.alloc(4096)]))
    const outcome = await img([...raw, 'disk.raw', 'longer.raw'], { cwd })
    expect([outcome.code, outcome.stdout]).toEqual([
      0,
      'Warning: Image size mismatch!\nImages are identical.\n',
    ])
    expect((await img([...raw, '-q', 'disk.raw', 'longer.raw'], { cwd })).stdout).toBe('')
  })

  it('1: different content, size or, strictly, allocation', async () => {
    const other = Buffer.from(disk)
    other[100_001] = (other[100_001] ?? 0) ^ 1
    writeFileSync(join(cwd, 'other.raw'), other)
    writeFileSync(join(cwd, 'tail.raw'), Buffer.concat([disk, Buffer.from('tail'.padEnd(512, '.'))]))
    for (const [args, said] of [
      [['disk.raw', 'other.raw'], 'Content mismatch at offset 99840!\n'],
      [['disk.raw', 'tail.raw'], 'Warning: Image size mismatch!\nContent mismatch at offset 655360!\n'],
      [['-s', 'disk.raw', 'tail.raw'], 'Strict mode: Image size mismatch!\n'],
    ] as const) {
      const { code, stdout } = await img([...raw, ...args], { cwd })
      expect([code, stdout]).toEqual([1, said])
    }
    const told = await img([...raw, '--json', 'disk.raw', 'other.raw'], { cwd })
    expect([told.code, JSON.parse(told.stdout)]).toEqual([
      1,
      { same: false, reason: 'content', offset: 100_001 },
    ])
    await mustImg(['create', '-q', '-f', 'qcow2', 'empty.qcow2', '1M'], { cwd })
    writeFileSync(join(cwd, 'zeros.raw'), Buffer.alloc(1048576))
    const strict = await img(['compare', '-s', '-f', 'qcow2', '-F', 'raw', 'empty.qcow2', 'zeros.raw'], {
      cwd,
    })
    expect([strict.code, strict.stdout]).toEqual([1, 'Strict mode: Offset 0 block status mismatch!\n'])
  })

  it('2: cannot be opened', async () => {
    const { code, stderr } = await img(['compare', 'disk.qcow2', 'no.raw'], { cwd })
    expect([code, withoutExtras(stderr)]).toEqual([
      2,
      "img: Could not open 'no.raw': Could not open 'no.raw': No such file or directory\n",
    ])
  })

  it('3 and 4: cannot be read', async () => {
    await mustImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'data.qcow2'], { cwd })
    const fd = openSync(join(cwd, 'data.qcow2'), 'r+')
    // Data begins after the header's cluster.
    writeSync(fd, Buffer.alloc(2000, 0xff), 0, 2000, 65536)
    closeSync(fd)
    const data = await img(['compare', 'data.qcow2', 'disk.qcow2'], { cwd })
    expect(data.stderr).toMatch(/^img: Error while reading offset \d+ of data\.qcow2: /)
    expect([data.code, data.stdout]).toEqual([4, ''])

    // An L2 table that does not start at a cluster. The header tells where the L1 table is.
    const l1 = Number(readFileSync(join(cwd, 'empty.qcow2')).readBigUInt64BE(40))
    const tables = openSync(join(cwd, 'empty.qcow2'), 'r+')
    writeSync(tables, Buffer.from('8000000000000200', 'hex'), 0, 8, l1)
    closeSync(tables)
    const table = await img(['compare', 'empty.qcow2', 'disk.qcow2'], { cwd })
    expect(table.stderr).toMatch(/^img: Sector allocation test failed for empty\.qcow2: /)
    expect([table.code, table.stdout]).toEqual([3, ''])
  })

  it('1: wrong arguments', async () => {
    for (const args of [['disk.raw'], ['a', 'b', 'c']]) {
      const { code, stderr } = await img(['compare', ...args], { cwd })
      expect([code, stderr]).toEqual([
        1,
        "img: Expecting two image file names\nTry 'img --help' for more information\n",
      ])
    }
  })
})

describe('map', () => {
  it('stops at what has no place, and hints at JSON', async () => {
    await mustImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'compressed.qcow2'], { cwd })
    const { code, stdout, stderr } = await img(['map', 'compressed.qcow2'], { cwd })
    expect([code, stdout]).toEqual([1, 'Offset          Length          Mapped to       File\n'])
    expect(stderr).toMatch(
      /^img: File contains external, encrypted or compressed clusters\.\nimg: hint: .*json/,
    )
    const entries = JSON.parse(
      await mustImg(['map', '--output=json', 'compressed.qcow2'], { cwd }),
    ) as object[]
    expect(entries[0]).toEqual({
      start: 0,
      length: expect.any(Number) as number,
      depth: 0,
      present: true,
      zero: false,
      data: true,
    })
  })

  it('tells of a part', async () => {
    const part = ['-f', 'raw', '--output=json', '--start-offset=1k', '--max-length=1']
    expect(await mustImg(['map', ...part, 'disk.raw'], { cwd })).toMatch(
      /^\[\{ "start": 1024, "length": 1, .*\}\]\n$/,
    )
    const past = await mustImg(['map', '-f', 'raw', '--output=json', '-s', '2M', 'disk.raw'], { cwd })
    expect(past).toBe(
      '[{ "start": 2097152, "length": 0, "depth": 0, "present": false, "zero": false, "data": false}]\n',
    )
  })

  it.each([
    [[], "img: Expecting one image file name\nTry 'img --help' for more information\n"],
    [['--output=xml', 'disk.raw'], 'img: --output must be used with human or json as argument.\n'],
    [
      ['-s', 'x', 'disk.raw'],
      'img: Invalid start offset specified. You may use k, M, G, T, P or E suffixes for\nimg: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.\n',
    ],
    [
      ['-l', '9E', 'disk.raw'],
      'img: Invalid max length specified. Must be between 0 and 9007199254740991.\n',
    ],
  ])('refuses %j', async (args, said) => {
    const { code, stdout, stderr } = await img(['map', ...args], { cwd })
    expect([code, stdout, withoutExtras(stderr)]).toEqual([1, '', said])
  })
})

describe('measure', () => {
  it('tells what convert then takes', async () => {
    const told = JSON.parse(
      await mustImg(['measure', '--output=json', '-O', 'qcow2', '-f', 'raw', 'disk.raw'], { cwd }),
    ) as {
      required: number
    }
    expect(told.required).toBeGreaterThan(65536 * 4)
    expect(await mustImg(['measure', '-O', 'raw', '--size', '1G'])).toBe(
      'required size: 1073741824\nfully allocated size: 1073741824\n',
    )
  })

  it.each([
    [[], 'Either --size N or one filename must be specified.'],
    [['--size', '1G', 'disk.raw'], '--size N cannot be used together with a filename.'],
    [['-f', 'qcow2', '--size', '1G'], '--image-opts, -f, and -l require a filename argument.'],
    [['a', 'b'], 'At most one filename argument is allowed.'],
    [['--size', '1G', '-O', 'nosuch'], "Unknown file format 'nosuch'"],
    [['--size', '1G', '-O', 'qcow2', '-o', 'foo=1'], "Invalid parameter 'foo'"],
    [['-l', 'x', '-O', 'qcow2', 'disk.qcow2'], "Failed to load snapshot: Can't find snapshot"],
  ])('refuses %j', async (args, said) => {
    const { code, stdout, stderr } = await img(['measure', ...args], { cwd })
    expect([code, stdout, withoutExtras(stderr).split('\n')[0]]).toEqual([1, '', `img: ${said}`])
  })
})

describe('info', () => {
  it('warns of a raw disk that it had to guess, not where -f says so', async () => {
    expect((await img(['info', 'disk.raw'], { cwd })).stderr).toBe(
      'img: warning: disk.raw: no format recognises this file; it is read as raw. Say -f raw to mean that\n',
    )
    expect((await img(['info', '-f', 'raw', 'disk.raw'], { cwd })).stderr).toBe('')
  })

  it('tells where an image is damaged, and what to try', async () => {
    writeFileSync(join(cwd, 'cut.qcow2'), Buffer.from('514649fb00000003', 'hex'))
    truncateSync(join(cwd, 'cut.qcow2'), 4096)
    const { code, stdout, stderr } = await img(['info', 'cut.qcow2'], { cwd })
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(
      /^img: Could not open 'cut\.qcow2': .*\nimg: detail: IMG_\w+ at byte \d+ \(0x[\da-f]+\) of cut\.qcow2\n/,
    )
  })

  it('--details adds what qemu-img does not show', async () => {
    expect(await mustImg(['info', 'disk.qcow2'], { cwd })).not.toContain('Further information')
    expect(await mustImg(['info', '--details', 'disk.qcow2'], { cwd })).toContain('Further information:\n')
    const json = JSON.parse(
      await mustImg(['info', '--details', '--output=json', 'disk.qcow2'], { cwd }),
    ) as object
    expect(json).toHaveProperty('extra')
  })

  it('takes an image by options', async () => {
    const text = await mustImg(
      ['info', '--image-opts', 'driver=raw,offset=512,size=1k,file.filename=disk.raw'],
      { cwd },
    )
    expect(text).toContain('file format: raw\nvirtual size: 1 KiB (1024 bytes)\n')
    const { code, stderr } = await img(['info', '-f', 'raw', '--image-opts', 'file.filename=disk.raw'], {
      cwd,
    })
    expect([code, stderr]).toEqual([1, 'img: --image-opts and --format are mutually exclusive\n'])
  })
})

describe('warnings', () => {
  it('have a code where output is JSON', async () => {
    const { code, stderr } = await img(['--json', 'info', 'disk.raw'], { cwd })
    expect([code, JSON.parse(stderr)]).toEqual([
      0,
      { warning: { code: 'WARN_GUESSED_RAW', message: expect.stringContaining('it is read as raw') } },
    ])
  })
})
