import { ImageError, type OpenOptions, type ReferenceResolver } from '@img/core'
import { digest } from '@tooling/test-disks/disks'
import { type Fixture, fixtureMap } from '@tooling/test-disks/fixtures'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { open } from './support/disks.js'
import { fixtures as all, fixtureBytes } from './support/fixtures.js'

const fixtures = all.filter(({ secrets }) => secrets === undefined)

const references: ReferenceResolver = {
  open: async ({ name }) => ({
    storage: new MemoryStorage(fixtureBytes(name), { label: name }),
    format: name.endsWith('.raw') ? 'raw' : undefined,
  }),
}

function openFixture(fixture: Fixture, options: OpenOptions = {}, async = false) {
  return open(new MemoryStorage(fixtureBytes(fixture.file), { label: fixture.file, async }), {
    references,
    ...options,
  })
}

describe('content', () => {
  const good = fixtures.filter(({ expect: e }) => e === 'ok')
  it('has fixtures', () => expect(good.length).toBeGreaterThan(4))
  for (const fixture of good) {
    for (const async of [false, true]) {
      it(`${fixture.file}: ${fixture.title}${async ? ' (asynchronously)' : ''}`, async () => {
        await using image = await openFixture(fixture, {}, async)
        expect(image.size).toBe(fixture.virtualSize)
        for (const { offset, length, sha256 } of fixture.ranges ?? []) {
          expect(await digest(image, offset, length)).toBe(sha256)
        }
        if (!fixture.ranges) expect(await digest(image)).toBe(fixture.content?.sha256)
        if (fixture.file.includes('huge')) return
        const result = await image.check?.()
        expect(result).toMatchObject({ checkErrors: 0, corruptions: 0, leaks: 0 })
      })
    }
  }
})

describe('refused', () => {
  // QEMU reads zeros where the L1 table is not in the file.
  const bad = fixtures.filter(({ expect: e }) => e === 'reject' || e === 'accepted-by-qemu')
  for (const fixture of bad) {
    it(`${fixture.file}: ${fixture.title}`, async () => {
      const failed = await openFixture(fixture)
        .then((image) => digest(image))
        .catch((error: unknown) => error)
      expect(failed).toBeInstanceOf(ImageError)
      expect((failed as ImageError).message).not.toBe('')
    })
  }
})

describe('info', () => {
  for (const fixture of all.filter(({ info, expect: e }) => info?.json && e === 'ok')) {
    it(fixture.file, async () => {
      await using image = await openFixture(fixture, { inspect: true })
      const info = await image.info()
      const json = fixture.info?.json as Record<string, unknown>
      expect(info.virtualSize).toBe(json['virtual-size'])
      expect(info.clusterSize).toBe(json['cluster-size'])
      expect(info.dirty).toBe(json['dirty-flag'])
      expect(info.encrypted ?? false).toBe(json.encrypted ?? false)
      expect(info.backing?.name).toBe(json['backing-filename'])
    })
  }
})

describe('map: as qemu-img tells it', () => {
  const alone = fixtures.filter((entry) => entry.expect === 'ok' && !entry.info?.json?.['backing-filename'])
  for (const fixture of alone.filter((entry) => fixtureMap(entry))) {
    it(fixture.file, async () => {
      await using image = await openFixture(fixture)
      const ours: (string | number | boolean | undefined)[] = []
      for await (const extent of image.extents()) {
        const present = extent.kind !== 'unallocated'
        const last = ours.at(-1)
        const next = `${present} ${extent.kind === 'data' ? extent.hostOffset - extent.offset : ''}`
        // Neighbours that are compressed apart are one to QEMU.
        if (typeof last === 'string' && last.endsWith(next)) continue
        ours.push(`${extent.offset} ${next}`)
      }
      const theirs: string[] = []
      for (const { start, present, offset } of fixtureMap(fixture) ?? []) {
        const next = `${present} ${offset === undefined ? '' : offset - start}`
        if (!theirs.at(-1)?.endsWith(next)) theirs.push(`${start} ${next}`)
      }
      expect(ours).toEqual(theirs)
    })
  }
})

it('is told apart from qcow2 by its version', async () => {
  const bytes = fixtureBytes('qcow1-plain.qcow')
  const { qcow } = await import('../src/format.js')
  const matches = (head: Uint8Array) =>
    qcow.probe?.matches({ head, tail: new Uint8Array(0), size: bytes.length, label: '' })
  expect(matches(bytes.subarray(0, 8))).toBe(true)
  const second = bytes.slice(0, 8)
  second[7] = 2
  expect(matches(second)).toBe(false)
})
