import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { Extent } from '@img/core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { sizeBar } from '../src/picture/bar.js'
import { kinds, pictureOf } from '../src/picture/cells.js'
import { drawPicture } from '../src/picture/draw.js'
import { terminalStyle } from '../src/terminal-style.js'
import { img, imgFile, mustImg, runProgram, temporaryDirectory } from './support/cli.js'
import { makeDisk } from './support/content.js'

const cwd = temporaryDirectory()
const esc = '\u001b'
const plain = { width: 80, colour: false, unicode: true }
const utf8 = { cwd, env: { LC_ALL: 'C.UTF-8' } }

beforeAll(async () => {
  makeDisk(join(cwd, 'disk.raw'), 1_048_576)
  await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'base.qcow2'], { cwd })
  await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], { cwd })
})

/** Extents of kinds and lengths, one after the other. */
async function* row(
  parts: readonly (readonly [kind: string, length: number, depth?: number])[],
): AsyncGenerator<Extent> {
  let offset = 0
  for (const [kind, length, depth = 0] of parts) {
    yield { kind, offset, length, depth } as Extent
    offset += length
  }
}

const total = (parts: readonly (readonly [string, number, number?])[]): number =>
  parts.reduce((sum, [, length]) => sum + length, 0)

describe('cells', () => {
  it('show data wherever there is any, and which kind there is most of', async () => {
    const parts = [
      ['data', 100],
      ['zero', 100],
      ['unallocated', 99],
      ['compressed', 1],
      ['data', 40, 1],
      ['compressed', 60],
    ] as const
    const picture = await pictureOf(row(parts), { start: 0, length: 400, count: 4, unit: 1 })
    expect(picture.cells).toEqual([
      { kind: 'data', part: false },
      { kind: 'zero', part: false },
      { kind: 'compressed', part: true },
      { kind: 'compressed', part: false },
    ])
    expect(picture.bytes).toEqual({ data: 100, compressed: 61, backing: 40, zero: 100, empty: 99 })
  })

  it('count every byte once, whatever the extents, and are never more than asked for', async () => {
    const part = fc.tuple(
      fc.constantFrom('data', 'compressed', 'zero', 'unallocated'),
      fc.integer({ min: 1, max: 5000 }),
      fc.integer({ min: 0, max: 2 }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(part, { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom(1, 512, 4096),
        async (parts, count, unit) => {
          const length = total(parts)
          const { cells, bytes, cellBytes } = await pictureOf(row(parts), { start: 0, length, count, unit })
          expect(kinds.reduce((sum, kind) => sum + bytes[kind], 0)).toBe(length)
          expect(cells.length).toBeLessThanOrEqual(count)
          expect(cells.length * cellBytes).toBeGreaterThanOrEqual(length)
          for (const line of drawPicture({ cells, bytes, cellBytes }, 0, plain).split('\n').slice(0, -1)) {
            expect([...line].length).toBeLessThanOrEqual(plain.width)
          }
        },
      ),
    )
  })
})

describe('img map --picture', () => {
  it('draws in block characters, or in ASCII where the locale has none', async () => {
    const blocks = await img(['map', '--picture', 'base.qcow2'], utf8)
    expect(blocks.stdout).toMatch(/^ +0 B [█▄·]+\n[\s\S]*█ data /)
    const ascii = await img(['map', '--picture', 'base.qcow2'], { cwd, env: { LC_ALL: 'C' } })
    expect(ascii.stdout).toMatch(/^ +0 B [#+.]+\n/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
    expect(ascii.stdout).toMatch(/^[\x0a\x20-\x7e]*$/)
    // The same cells.
    const letters = { '█': '#', '▄': '+', '·': '.', '░': '0' } as Record<string, string>
    expect([...blocks.stdout].map((each) => letters[each] ?? each).join('')).toBe(ascii.stdout)
  })

  it('tells what comes from backing files', async () => {
    const { stdout } = await img(['map', '--picture', 'top.qcow2'], utf8)
    expect(stdout).toMatch(/▒ from backing files /)
    expect(stdout).not.toContain('█')
  })

  it('has the width of the terminal, and sensible limits', async () => {
    for (const [columns, width] of [
      ['60', 60],
      ['10', 40],
      ['999', 200],
    ] as const) {
      const args = ['map', '--picture', '-f', 'raw', 'disk.raw']
      const { stdout } = await img(args, { cwd, env: { LC_ALL: 'C.UTF-8', COLUMNS: columns } })
      expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(width)
      expect(stdout.split('\n')[0]).toHaveLength(width)
    }
  })

  it('draws a part of the disk', async () => {
    const { stdout } = await img(['map', '--picture', '-s', '512k', '-l', '128k', 'base.qcow2'], utf8)
    expect(stdout).toMatch(/^ +512 KiB ..\n/)
    expect((await img(['map', '--picture', '-s', '1G', 'base.qcow2'], utf8)).code).toBe(0)
  })

  it('is coloured where that is asked for, and not into a file', async () => {
    const { stdout } = await img(['map', '--picture', '--color=always', 'base.qcow2'], utf8)
    expect(stdout).toContain(`${esc}[32m█`)
    expect((await img(['map', '--picture', 'base.qcow2'], utf8)).stdout).not.toContain(esc)
  })

  it.each([
    [['--picture', '--output=json'], /mutually exclusive/],
    [['--color=always'], /--picture/],
    [['--picture', '--color=sometimes'], /auto, always or never/],
  ])('is refused with %j', async (args, message) => {
    const { code, stderr } = await img(['map', ...args, 'base.qcow2'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toMatch(message)
  })
})

describe('the size on disk as a bar', () => {
  it('is full in proportion, shows anything there is, and never overflows', () => {
    const bar = (host: number, virtual: number): string => sizeBar(host, virtual, plain)
    expect(bar(50, 100)).toBe(`${'█'.repeat(20)}${'░'.repeat(20)} 50.0% of the virtual size`)
    expect(bar(1, 1_000_000)).toMatch(/^█░{39} 0\.0%/)
    expect(bar(0, 100)).toMatch(/^░{40} 0\.0%/)
    expect(bar(300, 100)).toMatch(/^█{40} 300\.0%/)
    expect(bar(0, 0)).toMatch(/^░{40} /)
    expect(sizeBar(1, 2, { ...plain, unicode: false })).toMatch(/^\[#{20}-{20}\]/)
  })

  it('is not in what scripts read, unless asked for', async () => {
    const { stdout } = await img(['info', 'base.qcow2'], utf8)
    expect(stdout).not.toContain('of the virtual size')
    const asked = await img(['info', '--bar', 'base.qcow2'], utf8)
    expect(asked.stdout).toMatch(/disk size: .*\n +█+░* [\d.]+% of the virtual size\ncluster_size: 65536/)
    expect(asked.stdout.replace(/ +[█░].*\n/, '')).toBe(stdout)
  })
})

const hasScript = spawnSync('script', ['--version']).error === undefined && process.platform === 'linux'

describe.skipIf(!hasScript)('on a terminal (skipped without script of util-linux)', () => {
  const onTerminal = async (args: string, env: Record<string, string>): Promise<string> => {
    const command = `stty cols 100; ${process.execPath} ${imgFile} ${args}`
    return (await runProgram('script', ['-qec', command, '/dev/null'], { cwd, env })).stdout.replaceAll(
      '\r',
      '',
    )
  }
  const colours = { LC_ALL: 'C.UTF-8', TERM: 'xterm-256color', NO_COLOR: '' }

  it('info has the bar, --no-bar takes it away', async () => {
    expect(await onTerminal('info base.qcow2', colours)).toContain('of the virtual size')
    const bare = await onTerminal('info --no-bar base.qcow2', colours)
    expect(bare).toBe((await img(['info', 'base.qcow2'], utf8)).stdout)
  })

  it('the picture has its width and colours, but for NO_COLOR and dumb terminals', async () => {
    const picture = await onTerminal('map --picture -f raw disk.raw', colours)
    expect(picture).toContain(`${esc}[32m`)
    expect(picture.split('\n')[0]?.replace(new RegExp(`${esc}\\[\\d+m`, 'g'), '')).toHaveLength(100)
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
      expect(await onTerminal('map --picture -f raw disk.raw', { ...colours, ...env })).not.toContain(esc)
    }
  })
})

it('a style knows NO_COLOR, COLUMNS and the locale', () => {
  expect(terminalStyle('always', { NO_COLOR: '1', COLUMNS: '120', LANG: 'en_US.UTF-8' })).toMatchObject({
    colour: true,
    width: 120,
  })
  expect(terminalStyle('never', {}).colour).toBe(false)
})
