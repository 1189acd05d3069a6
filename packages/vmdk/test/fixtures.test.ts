import { dirname, join } from 'node:path'
import {
  createRegistry,
  type DiskImage,
  ImageError,
  type OpenOptions,
  openImage,
  probeFormat,
  type ReferenceResolver,
} from '@img/core'
import { digest } from '@tooling/test-disks/disks'
import { type Fixture, fixtureMap, type MapEntry } from '@tooling/test-disks/fixtures'
import { raw } from '@tooling/test-disks/raw'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { fixtureBytes, fixtures, hasAllFixtures, hasFixture } from './support/fixtures.js'

const registry = createRegistry([vmdk, raw])

/** Opens what images name, relative to the folder of the image, and nothing above it. */
const references: ReferenceResolver = {
  async open(reference, from) {
    if (reference.name.startsWith('..')) throw new ImageError('IMG_REFERENCE_DENIED', reference.name)
    const name = join(dirname(from.label), reference.name)
    if (!hasFixture(name)) throw new ImageError('IMG_REFERENCE_MISSING', name)
    return { storage: storage(name) }
  },
}

function storage(name: string, async = false): MemoryStorage {
  return new MemoryStorage(fixtureBytes(name), { label: name, async })
}

function open(fixture: Fixture, options: OpenOptions = {}, async = false): Promise<DiskImage> {
  return openImage(storage(fixture.file, async), { registry, format: 'vmdk', references, ...options })
}

/** The map with zeros that only the host knows of as plain data, and neighbours joined. */
function withoutHoles(entries: readonly MapEntry[]): MapEntry[] {
  const joined: MapEntry[] = []
  for (const entry of entries) {
    const next = { ...entry, zero: !entry.data, depth: entry.present ? entry.depth : 0 }
    const last = joined.at(-1)
    const same =
      last && (['depth', 'present', 'zero', 'data'] as const).every((key) => last[key] === next[key])
    const continued = last?.offset === undefined ? undefined : last.offset + last.length
    if (same && continued === next.offset)
      joined[joined.length - 1] = { ...last, length: last.length + next.length }
    else joined.push(next)
  }
  return joined
}

const codes = ['IMG_CORRUPT', 'IMG_TRUNCATED', 'IMG_UNSUPPORTED', 'IMG_UNSUPPORTED_SIZE']
const good = fixtures.filter(({ expect }) => expect === 'ok')

describe('fixtures', () => {
  if (!hasAllFixtures) it.skip('the large collection: set IMG_FIXTURES to its folder', () => undefined)

  describe('content', () => {
    for (const fixture of good) {
      for (const async of [false, true]) {
        it(`${fixture.file}: ${fixture.title}${async ? ' (asynchronously)' : ''}`, async () => {
          await using image = await open(fixture, {}, async)
          const truth = fixture.truth ?? { virtualSize: fixture.virtualSize, sha256: fixture.content?.sha256 }
          expect(image.size).toBe(truth.virtualSize)
          if (truth.sha256) expect(await digest(image)).toBe(truth.sha256)
          for (const { offset, length, sha256 } of fixture.ranges ?? []) {
            expect(await digest(image, offset, length)).toBe(sha256)
          }
          expect(truth.sha256 ?? fixture.ranges).toBeDefined()
        })
      }
    }
  })

  describe('probing', () => {
    for (const fixture of good) {
      it(fixture.file, async () => {
        expect((await probeFormat(storage(fixture.file), { registry }))?.name).toBe('vmdk')
      })
    }
  })

  describe('damaged: right or refused', () => {
    const doubtful = fixtures.filter(({ expect }) => expect !== 'ok' && expect !== 'reject')
    for (const fixture of doubtful) {
      it(`${fixture.file}: ${fixture.title}`, async () => {
        let read: string
        try {
          await using image = await open(fixture)
          read = await digest(image)
        } catch (error) {
          expect(error).toBeInstanceOf(ImageError)
          const { code, message, source } = error as ImageError
          expect(codes).toContain(code)
          expect(message).toContain(fixture.file)
          expect(source).toBe(fixture.file)
          return
        }
        // QEMU reads zeros where a directory is gone; the redundant one has what was there.
        const undamaged = '9bab7351be327f7e0257e56a1be233f0cf550e2be9e1462bb019ad9e2f90bfec'
        const same = '09bd25fcb7f07ce76ee3e0155016ab2b3eb2fffbc276f6a7bc439f2ff00a9ebe'
        expect([fixture.content?.sha256, undamaged, same]).toContain(read)
      })
    }
  })

  describe('refused', () => {
    for (const fixture of fixtures.filter(({ expect }) => expect === 'reject')) {
      it(`${fixture.file}: ${fixture.title}`, async () => {
        const failed = await open(fixture)
          .then((image) => digest(image))
          .catch((error: unknown) => error)
        expect(failed).toBeInstanceOf(ImageError)
      })
    }
  })

  describe('info', () => {
    for (const fixture of good.filter(({ info, truth }) => info?.json && !truth)) {
      it(fixture.file, async () => {
        // For information alone as well as opened whole.
        for (const inspect of [false, true]) {
          const opened: string[] = []
          const noted: ReferenceResolver = {
            open(reference, ...rest) {
              opened.push(reference.name)
              return references.open(reference, ...rest)
            },
          }
          await using image = await open(fixture, { chain: false, inspect, references: noted })
          const info = await image.info()
          const json = fixture.info?.json as Record<string, unknown>
          expect(info.virtualSize).toBe(json['virtual-size'])
          expect(info.clusterSize).toBe(json['cluster-size'])
          expect(info.dirty).toBe(json['dirty-flag'])
          expect(info.compressed).toBe(json.compressed)
          expect(info.specific).toEqual((json['format-specific'] as { data: unknown }).data)
          expect(info.backing?.name).toBe(json['backing-filename'])
          expect(info.backing?.format).toBe(json['backing-filename-format'])
          if (inspect) expect(opened.filter((name) => /-flat|-f0|vmdk-delta\d?\.vmdk/.test(name))).toEqual([])
        }
      })
      it(`${fixture.file}, where no other file may be opened`, async () => {
        await using image = await open(fixture, { inspect: true, references: undefined })
        expect((await image.info()).virtualSize).toBe(fixture.virtualSize)
      })
    }
  })

  describe('map: as qemu-img tells it, but for holes of the host', () => {
    // QEMU tells of the last grain of an extent beyond its end, into the next one.
    const wrong = 'vmdk-multi.vmdk'
    for (const fixture of good.filter((entry) => !entry.truth && fixtureMap(entry))) {
      if (fixture.file === wrong) continue
      it(fixture.file, async () => {
        await using image = await open(fixture)
        const ours: unknown[] = []
        for await (const extent of image.extents()) {
          const unallocated = extent.kind === 'unallocated'
          ours.push({
            start: extent.offset,
            length: extent.length,
            depth: extent.depth,
            present: !unallocated,
            zero: extent.kind === 'zero' || unallocated,
            data: extent.kind === 'data' || extent.kind === 'compressed',
            ...(extent.kind !== 'compressed' &&
              extent.hostOffset !== undefined && { offset: extent.hostOffset }),
          })
        }
        expect(withoutHoles(ours as MapEntry[])).toEqual(withoutHoles(fixtureMap(fixture) ?? []))
      })
    }
  })
})
