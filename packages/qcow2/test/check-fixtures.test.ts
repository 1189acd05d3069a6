import { type CheckFinding, type CheckResult, ImageError, openImage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import { type Fixture, fixtureBytes, fixtures, hasFixture } from './support/fixtures.js'
import { MemoryStorage } from './support/storage.js'

/** Where more is repaired than qemu-img can: it stops with an error, and the image stays as damaged as it was. */
const better = ['bad-qcow2-rt-misaligned.qcow2']
/** Opening it for writing, qemu-img empties the bitmaps that were in use: their clusters are given back then. */
const emptied = ['qcow2-bitmap-in-use.qcow2']
/** Refused on opening: a file name that lies inside the header, and an offset of 2^63. */
const refused = ['attack-qcow2-v2-backing-off.qcow2', 'attack-qcow2-snap-off-huge.qcow2']
/** qemu-img asks for a passphrase first, which no check needs. */
const locked = ['attack-qcow2-crypt-1-nokey.qcow2']

/** Numbers as `qemu-img check --output=json` prints them: those that are 0 are left out. */
function numbers(result: CheckResult): Record<string, number> {
  const shown: Record<string, number | undefined> = {
    'image-end-offset': result.imageEndOffset,
    'total-clusters': result.totalClusters || undefined,
    corruptions: result.corruptions || undefined,
    'check-errors': result.checkErrors,
    leaks: result.leaks || undefined,
    'corruptions-fixed': result.corruptionsFixed || undefined,
    'leaks-fixed': result.leaksFixed || undefined,
    'allocated-clusters': result.allocatedClusters || undefined,
    'fragmented-clusters': result.fragmentedClusters || undefined,
    'compressed-clusters': result.compressedClusters || undefined,
  }
  return Object.fromEntries(Object.entries(shown).filter(([, n]) => n !== undefined)) as Record<
    string,
    number
  >
}

function exitCode({ checkErrors, corruptions, leaks }: CheckResult): number {
  if (checkErrors > 0) return 1
  if (corruptions > 0) return 2
  return leaks > 0 ? 3 : 0
}

/** Lines of qemu-img that are the check's own; what is said on opening is not. */
function lines(stderr = ''): string[] {
  return stderr
    .split('\n')
    .map((line) => line.replace(/^.*on the image file to fix\./, '').replace(/^qemu-img: (?=ERROR)/, ''))
    .filter((line) => line !== '' && !/^(qemu-img|qcow2): |^You can force-remove|^Use qemu-img/.test(line))
    .map((line) => line.replace(/(Can't get refcount for cluster \d+): .*/, '$1'))
}

interface Outcome {
  readonly rc: number
  readonly json?: Record<string, number>
  readonly lines: readonly string[]
}

async function run(storage: MemoryStorage, repair?: 'leaks' | 'all', dryRun = false): Promise<Outcome> {
  const findings: CheckFinding[] = []
  const image = await openImage(storage, {
    registry,
    format: 'qcow2',
    repair: true,
    writable: repair !== undefined && !dryRun,
    chain: false,
    // What is checked is the image file alone.
    references: { open: async () => ({ storage: new MemoryStorage(new Uint8Array(2 ** 20)) }) },
  })
  const result = (await image.check?.({ repair, dryRun, onFinding: (f) => findings.push(f) })) as CheckResult
  await image.close()
  return {
    rc: exitCode(result),
    json: numbers(result),
    lines: findings.map(({ message }) => message.replace(/(Can't get refcount for cluster \d+): .*/, '$1')),
  }
}

type Run = NonNullable<Fixture['check']>

function expectSame(outcome: Outcome, expected: Run): void {
  const { filename: _, format: __, ...json } = expected.json ?? {}
  expect(outcome.lines).toEqual(lines(expected.stderr))
  expect(outcome.rc).toBe(expected.rc)
  if (expected.json) expect(outcome.json).toEqual(json)
}

const checked = fixtures.filter(
  ({ check, file, secrets }) => check !== undefined && secrets === undefined && hasFixture(file),
)

describe('check of fixtures, as qemu-img', () => {
  for (const fixture of checked) {
    const { file, check, repair } = fixture
    if (check?.stderr?.includes('Could not open') || refused.includes(file)) {
      // Backing and data files are the CLI's to miss.
      if (/open backing file|gone\.data/.test(check?.stderr ?? '')) continue
      if (locked.includes(file)) continue
      it(`${file} is not opened`, async () => {
        await expect(run(new MemoryStorage(fixtureBytes(file)))).rejects.toSatisfy((e) => ImageError.is(e))
      })
      continue
    }
    it(`${file}: ${check?.rc}`, async () => {
      const bytes = fixtureBytes(file)
      const storage = new MemoryStorage(bytes.slice())
      expectSame(await run(storage), check as Run)
      expect(Buffer.compare(storage.content(), bytes)).toBe(0)
      expectSame(await run(new MemoryStorage(bytes.slice(), { async: true })), check as Run)
    })
    for (const how of ['leaks', 'all'] as const) {
      const expected = repair?.[how]
      if (expected === undefined) continue
      if (how === 'all' && better.includes(file)) {
        it(`${file}, repaired, which qemu-img cannot`, async () => {
          const storage = new MemoryStorage(fixtureBytes(file))
          expect((await run(storage, how)).rc).toBe(0)
          expect((await run(storage)).rc).toBe(0)
        })
        continue
      }
      it(`${file}, repaired (${how})`, async () => {
        const bytes = fixtureBytes(file)
        const dry = new MemoryStorage(bytes.slice())
        const planned = await run(dry, how, true)
        expect(Buffer.compare(dry.content(), bytes)).toBe(0)
        expectSame(planned, expected.run)
        const storage = new MemoryStorage(bytes.slice())
        expect(await run(storage, how)).toEqual(planned)
        if (!emptied.includes(file)) expectSame(await run(storage), expected.checkAfter)
      })
    }
  }
})
