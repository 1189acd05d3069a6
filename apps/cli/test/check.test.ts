import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { img, type Outcome, temporaryDirectory, withoutExtras } from './support/cli.js'
import { type CheckRun, fixtures, unpack } from './support/fixtures.js'

/** One of each kind: what a repair prints, and each exit code. All of them are checked by the tests of the plugin. */
const chosen = [
  'bad-qcow2-leaked.qcow2',
  'bad-qcow2-copied-flag.qcow2',
  'bad-qcow2-cross-linked.qcow2',
  'bad-qcow2-l2-outside.qcow2',
  'bad-qcow2-rb-zeroed.qcow2',
  'bad-qcow2-snap-count-more.qcow2',
]

function expectRun(outcome: Outcome, expected: CheckRun): void {
  const stderr = withoutExtras(outcome.stderr)
    .trim()
    .replaceAll(/^img: /gm, 'qemu-img: ')
  // Where it gives up, qemu-img tells the error number of its last step.
  expect(stderr).toBe((expected.stderr ?? '').trim().replace(/(Check failed): .*/, '$1'))
  expect(outcome.code).toBe(expected.rc)
  expect(outcome.stdout === '' ? undefined : JSON.parse(outcome.stdout)).toEqual(expected.json)
}

describe('check and repair, as qemu-img was recorded to do', () => {
  const cwd = temporaryDirectory()
  const found = fixtures.filter(({ file }) => chosen.includes(file))
  it.skipIf(found.length === 0)('finds the chosen fixtures (skipped without them)', () => {
    expect(found.map(({ file }) => file).sort()).toEqual([...chosen].sort())
  })
  for (const fixture of found) {
    const { file, check, repair } = fixture
    it(file, async () => {
      unpack(fixture, cwd)
      const bytes = readFileSync(join(cwd, file))
      const run = (...args: string[]): Promise<Outcome> =>
        img(['check', '--output=json', '-f', 'qcow2', ...args, file], { cwd })
      expectRun(await run(), check as CheckRun)
      for (const how of ['leaks', 'all'] as const) {
        const expected = repair?.[how]?.run
        if (expected === undefined) continue
        writeFileSync(join(cwd, file), bytes)
        expectRun(await run('-r', how, '--dry-run'), expected)
        expect(readFileSync(join(cwd, file)).equals(bytes)).toBe(true)
        expectRun(await run('-r', how), expected)
      }
    })
  }

  it.skipIf(found.length === 0)('prints no numbers where it has to give up, as qemu-img', async () => {
    const fixture = fixtures.find(({ file }) => file === 'bad-qcow2-snap-extra-size.qcow2')
    if (fixture === undefined) throw new Error('the fixture is not there')
    unpack(fixture, cwd)
    const { code, stdout, stderr } = await img(['check', '--output=json', fixture.file], { cwd })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/Too much extra metadata in snapshot table entry 0\nimg: Check failed\n$/)
  })

  it.skipIf(found.length === 0)('says for people what was, and would be, repaired', async () => {
    const fixture = found.find(({ file }) => file === 'bad-qcow2-leaked.qcow2')
    if (fixture === undefined) throw new Error('the fixture is not there')
    const own = temporaryDirectory()
    unpack(fixture, own)
    const run = (...args: string[]): Promise<Outcome> => img(['check', ...args, fixture.file], { cwd: own })
    const planned = await run('-r', 'leaks', '--dry-run')
    expect(planned.stdout).toMatch(
      /^The following inconsistencies would be repaired:\n\n {4}\d+ leaked clusters\n/,
    )
    expect(planned.stdout).not.toContain('Double checking')
    expect((await run()).code).toBe(3)
    const done = await run('-r', 'leaks')
    expect(done.code).toBe(0)
    expect(done.stdout).toContain('were found and repaired:')
    expect(done.stdout).toContain(
      'Double checking the fixed image now...\nNo errors were found on the image.\n',
    )
    expect((await run('-q')).stdout).toBe('')
  })

  it('refuses --dry-run without -r', async () => {
    expect(await img(['check', '--dry-run', 'a'])).toMatchObject({ code: 1 })
  })
})

describe('convert --salvage', () => {
  const found = fixtures.find(({ file }) => file === 'bad-qcow2-comp-garbage.qcow2')
  it.skipIf(found === undefined)(
    'goes on after errors, and tells of every range lost (skipped without fixtures)',
    async () => {
      const cwd = temporaryDirectory()
      const fixture = found as NonNullable<typeof found>
      unpack(fixture, cwd)
      const args = ['convert', '-f', 'qcow2', '-O', 'raw', fixture.file, 'out.raw']
      expect((await img(args, { cwd })).code).toBe(1)
      const salvaged = await img([...args, '--salvage'], { cwd })
      expect(salvaged.code).toBe(0)
      const lost = [
        ...salvaged.stderr.matchAll(/^img: warning: error while reading offset (\d+): (\d+) bytes lost/gm),
      ]
      expect(lost.length).toBeGreaterThan(0)
      const bytes = readFileSync(join(cwd, 'out.raw'))
      for (const [, offset, length] of lost) {
        const part = bytes.subarray(Number(offset), Number(offset) + Number(length))
        expect(part.every((byte) => byte === 0)).toBe(true)
      }
      expect(bytes.some((byte) => byte !== 0)).toBe(true)
    },
  )
})
