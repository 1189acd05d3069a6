import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { endless, fixtureDifferences, notCompared } from './parity/fixture-differences.js'
import { comparable } from './parity/run.js'
import { type Batch, startBatch } from './support/batch.js'
import { type Outcome, runProgram, temporaryDirectory } from './support/cli.js'
import { allFixtures, hasFixtures, unpack } from './support/fixtures.js'
import { hasQemu7 } from './support/qemu.js'

const commands = [
  ['info'],
  ['info', '--output=json'],
  ['map'],
  ['map', '--output=json'],
  ['check'],
  ['check', '--output=json'],
  ['measure', '-O', 'qcow2'],
  ['measure', '-O', 'raw', '--output=json'],
] as const

/** All with `IMG_ALL_FIXTURES=1`, as .ci/run has it; otherwise every sixth. */
const everything = process.env.IMG_ALL_FIXTURES === '1'
const share = 6

const compared = allFixtures.filter(
  ({ file, format }, i) => !notCompared.has(format) && !endless.test(file) && (everything || i % share === 0),
)

describe.skipIf(!hasFixtures || !hasQemu7)(
  'info, map, check and measure on images of the collection (skipped without it or qemu-img 7.2)',
  () => {
    const cwd = temporaryDirectory()
    const met = new Set<string>()
    let batch: Batch
    beforeAll(() => {
      // A part of an image may be an image of its own.
      for (const fixture of allFixtures) unpack(fixture, cwd)
      batch = startBatch(cwd)
    })
    afterAll(() => batch?.end())

    it.each(compared.map((fixture) => [fixture.file, fixture.expect] as const))(
      '%s',
      async (file, quality) => {
        for (const command of commands) {
          const args = [...command, file]
          const timeout = 10_000
          const [theirs, ours] = await Promise.all([
            runProgram('qemu-img', args, { cwd, timeout }),
            batch.img(args),
          ])
          const [expected, outcome] = [shown(theirs, quality), shown(ours, quality)]
          const difference = fixtureDifferences.find(
            ({ files, verbs }) => files.test(file) && (verbs?.includes(command[0]) ?? true),
          )
          if (difference === undefined) expect(outcome, args.join(' ')).toEqual(expected)
          else if (JSON.stringify(outcome) !== JSON.stringify(expected)) met.add(difference.reason)
        }
      },
    )

    it.skipIf(!everything)(
      'differs wherever a difference is listed (skipped without IMG_ALL_FIXTURES=1)',
      () => {
        expect([...met].sort()).toEqual(fixtureDifferences.map(({ reason }) => reason).sort())
      },
    )
  },
)

/** What is compared. Of images that are not sound, each program says in its own words what is wrong. */
function shown(outcome: Outcome, quality: string): Partial<Outcome> {
  const { code, stdout, stderr } = comparable(outcome)
  return quality === 'ok' && code === 0 ? { code, stdout, stderr } : { code, stdout }
}
