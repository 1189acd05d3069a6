import { ImageError, type OpenOptions, type ReferenceResolver } from '@img/core'
import { digest } from '@tooling/test-disks/disks'
import { type Fixture, fixtureMap } from '@tooling/test-disks/fixtures'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { open } from './support/disks.js'
import { fixtureBytes, fixtures, hasFixture } from './support/fixtures.js'

/** Finds the parent as a folder would be searched: by the bytes that it has to hold. */
const references: ReferenceResolver = {
  async open(reference) {
    for (const name of ['vdi-dynamic.vdi', 'vdi-odd.vdi', 'vdi-parent.vdi']) {
      if (!hasFixture(name)) continue
      const bytes = fixtureBytes(name)
      const fits = reference.signatures?.some((parts) =>
        parts.every(({ offset, hex }) => {
          const found = Buffer.from(bytes.subarray(offset, offset + hex.length / 2)).toString('hex')
          return found === hex
        }),
      )
      if (fits) return { storage: new MemoryStorage(bytes, { label: name }) }
    }
    throw new ImageError('IMG_REFERENCE_MISSING', `no file has the UUID ${reference.name}`)
  },
}

function openFixture(fixture: Fixture, options: OpenOptions = {}, async = false) {
  return open(new MemoryStorage(fixtureBytes(fixture.file), { label: fixture.file, async }), {
    references,
    ...options,
  })
}

/** What this package sees otherwise than QEMU, which reads zeros or another block where the map is damaged. */
const refused = /bmap-outside|entry-outside|entry-dup|trunc-bmap|type-9|hdrsize/

describe('content', () => {
  const good = fixtures.filter(
    ({ expect: e, file }) => e === 'ok' || (e === 'accepted-by-qemu' && !refused.test(file)),
  )
  it('has fixtures', () => expect(good.length).toBeGreaterThan(5))
  for (const fixture of good) {
    for (const async of [false, true]) {
      it(`${fixture.file}: ${fixture.title}${async ? ' (asynchronously)' : ''}`, async () => {
        await using image = await openFixture(fixture, {}, async)
        expect(image.size).toBe(fixture.truth?.virtualSize ?? fixture.virtualSize)
        for (const { offset, length, sha256 } of fixture.ranges ?? []) {
          expect(await digest(image, offset, length)).toBe(sha256)
        }
        if (fixture.ranges) return
        expect(await digest(image)).toBe(fixture.truth?.sha256 ?? fixture.content?.sha256)
      })
    }
  }
})

describe('refused', () => {
  const bad = fixtures.filter(
    ({ expect: e, file }) => e === 'reject' || (e === 'accepted-by-qemu' && refused.test(file)),
  )
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

it('reads what is sound beside damaged entries, and refuses to write', async () => {
  const fixture = fixtures.find(({ file }) => file === 'attack-vdi-entry-outside.vdi') as Fixture
  await using image = await openFixture(fixture)
  await using whole = await open(new MemoryStorage(fixtureBytes('vdi-odd.vdi')))
  await expect(image.read(0, new Uint8Array(512))).rejects.toThrow(/block 0 is block 16777215 of the file/)
  const rest = image.size - 1024 * 1024
  expect(await digest(image, 1024 * 1024, rest)).toBe(await digest(whole, 1024 * 1024, rest))
  await expect(openFixture(fixture, { writable: true })).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
})

describe('info', () => {
  for (const fixture of fixtures.filter(({ info, file }) => info?.json && !refused.test(file))) {
    it(fixture.file, async () => {
      await using image = await openFixture(fixture, { inspect: true })
      const info = await image.info()
      const json = fixture.info?.json as Record<string, unknown>
      expect(info.virtualSize).toBe(json['virtual-size'])
      expect(info.clusterSize).toBe(json['cluster-size'])
      expect(info.dirty).toBe(json['dirty-flag'])
      expect(info.specific).toBeUndefined()
    })
  }
})

describe('check: the counts and words of qemu-img', () => {
  for (const fixture of fixtures.filter(({ check, file }) => check?.json && !refused.test(file))) {
    it(fixture.file, async () => {
      await using image = await openFixture(fixture)
      const messages: string[] = []
      const result = await image.check?.({ onFinding: ({ message }) => messages.push(message) })
      const cut = fixture.file.includes('trunc-data')
      expect(result?.corruptions).toBe(fixture.check?.json?.corruptions ?? 0)
      if (!cut) expect(result?.leaks).toBe(0)
      expect(messages.filter((line) => line.startsWith('ERROR')).join('\n')).toBe(fixture.check?.stderr ?? '')
    })
  }

  for (const file of ['attack-vdi-entry-outside.vdi', 'attack-vdi-entry-dup.vdi']) {
    it(file, async () => {
      const fixture = fixtures.find((entry) => entry.file === file) as Fixture
      await using image = await openFixture(fixture)
      const messages: string[] = []
      const result = await image.check?.({ onFinding: ({ message }) => messages.push(message) })
      expect(result?.corruptions).toBe(fixture.check?.json?.corruptions)
      const words = fixture.check?.stderr?.split('\n') ?? []
      expect(messages.filter((line) => line.startsWith('ERROR'))).toEqual(words)
    })
  }
})

describe('map: as qemu-img tells it, but for holes of the host', () => {
  for (const fixture of fixtures.filter((entry) => entry.expect === 'ok' && fixtureMap(entry))) {
    it(fixture.file, async () => {
      await using image = await openFixture(fixture)
      const ours: [number, boolean, number | undefined][] = []
      for await (const extent of image.extents()) {
        const data = extent.kind === 'data'
        ours.push([extent.offset, data, data ? extent.hostOffset : undefined])
      }
      const theirs: [number, boolean, number | undefined][] = []
      let end: number | undefined
      for (const { start, length, data, offset } of fixtureMap(fixture) ?? []) {
        const last = theirs.at(-1)
        if (last === undefined || last[1] !== data || (data && offset !== end))
          theirs.push([start, data, offset])
        end = offset === undefined ? undefined : offset + length
      }
      expect(ours).toEqual(theirs)
    })
  }
})
