import { ImageError } from '@img/core'
import type { CheckRun } from '@tooling/test-disks/fixtures'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { type Outcome, runCheck as run, shownLines } from './support/check.js'
import { fixtureBytes, fixtures, hasFixture } from './support/fixtures.js'

/** Where more is repaired than qemu-img can: it stops with an error, and the image stays as damaged as it was. */
const better = ['bad-qcow2-rt-misaligned.qcow2']
/** Opening it for writing, qemu-img empties the bitmaps that were in use: their clusters are given back then. */
const emptied = ['qcow2-bitmap-in-use.qcow2']
/** Refused on opening: a file name that lies inside the header, and an offset of 2^63. */
const refused = ['attack-qcow2-v2-backing-off.qcow2', 'attack-qcow2-snap-off-huge.qcow2']
/** qemu-img asks for a passphrase first, which no check needs. */
const locked = ['attack-qcow2-crypt-1-nokey.qcow2']

function expectSame(outcome: Outcome, expected: CheckRun): void {
  const { filename: _, format: __, ...json } = expected.json ?? {}
  expect(outcome.lines).toEqual(shownLines(expected.stderr))
  expect(outcome.rc).toBe(expected.rc)
  expect(outcome.json).toEqual(expected.json && json)
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
      expectSame(await run(storage), check as CheckRun)
      expect(Buffer.compare(storage.content(), bytes)).toBe(0)
      expectSame(await run(new MemoryStorage(bytes.slice(), { async: true })), check as CheckRun)
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
