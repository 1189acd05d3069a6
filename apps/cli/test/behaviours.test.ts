import { describe, expect, it } from 'vitest'
import { canWriteBitmaps } from './support/capabilities.js'
import { img, type Outcome, runProgram, temporaryDirectory, withoutExtras } from './support/cli.js'
import { behaviours, hasFixtures } from './support/fixtures.js'
import { hasQemu7 } from './support/qemu.js'

/** Command lines whose outcome is not qemu-img's, and why. Whatever stands here must really differ. */
const differences: Readonly<Record<string, string>> = {
  'qemu-img create -f qcow2 -o compat=0.9 bad.qcow2 1M': 'the option is told by the name it was given by',
  'qemu-img compare -p -f qcow2 -F raw a.qcow2 a.raw':
    'progress is not mixed into the result: it goes to stderr',
  'qemu-img resize a.raw +1M': 'a raw disk is not changed on a guess: -f raw is needed',
  'qemu-img bitmap --add v2.qcow2 b0': 'the image is told by its name, not by the number of a node',
  'qemu-img bitmap --add a.raw b0': 'the image is told by its name, not by the number of a node',
  'qemu-img measure --output=json -O vmdk --size 1G': 'VMDK can be measured',
  'qemu-img resize f.vmdk 2M': 'VMDK can be resized',
  'qemu-img create -f vdi -b a.raw -F raw bad.vdi 1M': 'a VDI image can have a parent, which has to be a VDI',
  'qemu-img measure --output=json -O vdi --size 1G': 'measured, too',
  'qemu-img measure --output=json -O luks --object secret,id=s,data=abc -o key-secret=s --size 1G':
    'a warning that a secret on the command line can be read by others',
  'qemu-img check a.qcow': 'checked, too',
  'qemu-img check --output=json a.qcow': 'checked, too',
  'qemu-img check -r all a.vdi': 'repaired, too',
  'qemu-img resize a.vdi 2M': 'resized, too',
  'qemu-img resize a.qcow 2M': 'resized, too',
  'qemu-img --version': 'another program',
}

/** These change nothing: what they print depends on the host's holes and on who made the image, so qemu-img is asked again. */
const readers = ['info', 'map', 'compare', 'measure', 'check']
/** A format that has no plugin: its images are made by qemu-img, and nothing is compared. */
const foreign = /\bvpc\b/

function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
}

/** What is the same wherever it runs. */
function normal(text: string): string {
  return text
    .replaceAll(/^qemu-img: /gm, 'img: ')
    .replaceAll("Try 'qemu-img --help'", "Try 'img --help'")
    .replaceAll(/"actual-size": \d+/g, '"actual-size": N')
    .replaceAll(/^disk size: .*$/gm, 'disk size: N')
}

/** A message that qemu-img leaves without an end of line gets one. */
function ended(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`
}

function expectSame(ours: Outcome, theirs: Outcome): void {
  expect({ code: ours.code, stdout: normal(ours.stdout), stderr: withoutExtras(ours.stderr) }).toEqual({
    code: theirs.code,
    stdout: normal(theirs.stdout),
    stderr: ended(normal(theirs.stderr)),
  })
}

// One after the other in one directory, as they were recorded.
describe.skipIf(!hasFixtures || !hasQemu7)(
  'recorded qemu-img command lines (skipped without them or qemu-img 7.2)',
  () => {
    const cwd = temporaryDirectory()
    const writesBitmaps = canWriteBitmaps()
    for (const [i, behaviour] of behaviours.entries()) {
      const [program = '', ...args] = words(behaviour.run)
      const [verb = ''] = args
      const ours =
        program === 'qemu-img' && !foreign.test(behaviour.run) && (verb !== 'bitmap' || writesBitmaps)
      const reads = readers.includes(verb) || behaviour.run.startsWith('qemu-img snapshot -l')
      // What changes nothing need not be run for what comes after.
      if (!ours && reads) continue
      if (!ours) {
        it(`${i} (made by ${program}) ${behaviour.run}`, async () => {
          const { code } = await runProgram(program, args, { cwd })
          expect(code).toBe(behaviour.rc)
        })
        continue
      }
      const difference = differences[behaviour.run]
      it(`${i} ${behaviour.run}${difference === undefined ? '' : ` (${difference})`}`, async () => {
        const recorded: Outcome = { code: behaviour.rc, stdout: behaviour.stdout, stderr: behaviour.stderr }
        const expected = reads ? await runProgram(program, args, { cwd }) : recorded
        const outcome = await img(args, { cwd })
        if (difference === undefined) return expectSame(outcome, expected)
        expect(() => expectSame(outcome, expected)).toThrow()
        // What comes next builds on what qemu-img did.
        if (outcome.code !== expected.code) await runProgram(program, args, { cwd })
      })
    }
  },
)
