import { dirname, join } from 'node:path'
import {
  createRegistry,
  type DiskImage,
  ImageError,
  type OpenOptions,
  openImage,
  type ReferenceResolver,
} from '@img/core'
import { digest } from '@tooling/test-disks/disks'
import { type Fixture, fixtureMap, type MapEntry } from '@tooling/test-disks/fixtures'
import { raw } from '@tooling/test-disks/raw'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { fixtureBytes, fixtures, hasAllFixtures, hasFixture } from './support/fixtures.js'

const registry = createRegistry([qcow2, raw])

/** Opens what images name, relative to the folder of the image. */
const references: ReferenceResolver = {
  async open(reference, from) {
    const nested = /^json:\{.*"filename": *"([^"]+)"/.exec(reference.name)
    // A json: name is relative to the working directory, which is the collection's folder.
    const name = nested?.[1] ?? join(dirname(from.label), reference.name)
    if (!hasFixture(name)) throw new ImageError('IMG_REFERENCE_MISSING', name)
    return { storage: storage(name), ...(nested && { format: 'qcow2' }) }
  },
}

function storage(name: string, async = false): MemoryStorage {
  return new MemoryStorage(fixtureBytes(name), { label: name, async })
}

function open(fixture: Fixture, options: OpenOptions = {}, async = false): Promise<DiskImage> {
  return openImage(storage(fixture.file, async), { registry, format: 'qcow2', references, ...options })
}

/** Backing files in formats that this package does not bring. */
const foreign = /over-(qcow|vmdk|vdi|vpc)|nofmt/

/**
 * The entries with zeros that only the host knows of as plain data, and neighbours joined. Whose layer an unallocated
 * range is told of does not matter.
 */
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

describe('fixtures', () => {
  if (!hasAllFixtures) it.skip('the large collection: set IMG_FIXTURES to its folder', () => undefined)

  const open_ = fixtures.filter(({ secrets, file }) => secrets === undefined && !foreign.test(file))

  describe('content', () => {
    for (const fixture of open_.filter(({ expect }) => expect === 'ok')) {
      for (const async of [false, true]) {
        it(`${fixture.file}: ${fixture.title}${async ? ' (asynchronously)' : ''}`, async () => {
          await using image = await open(fixture, {}, async)
          expect(image.size).toBe(fixture.virtualSize)
          if (fixture.content) expect(await digest(image)).toBe(fixture.content.sha256)
          for (const { offset, length, sha256 } of fixture.ranges ?? []) {
            expect(await digest(image, offset, length)).toBe(sha256)
          }
          expect(fixture.content ?? fixture.ranges).toBeDefined()
        })
      }
    }
  })

  describe('damaged: right or refused', () => {
    for (const fixture of open_.filter(({ expect }) => expect !== 'ok' && expect !== 'reject')) {
      it(`${fixture.file}: ${fixture.title}`, async () => {
        let read: string
        try {
          await using image = await open(fixture)
          read = await digest(image)
        } catch (error) {
          expect(error).toBeInstanceOf(ImageError)
          const { code, message, source } = error as ImageError
          expect(['IMG_CORRUPT', 'IMG_TRUNCATED', 'IMG_UNSUPPORTED', 'IMG_UNSUPPORTED_SIZE']).toContain(code)
          expect(message).toContain(fixture.file)
          expect(source).toBe(fixture.file)
          return
        }
        expect(read).toBe(fixture.content?.sha256)
      })
    }
  })

  describe('refused', () => {
    for (const fixture of open_.filter(({ expect }) => expect === 'reject')) {
      it(`${fixture.file}: ${fixture.title}`, async () => {
        const failed = await open(fixture)
          .then((image) => digest(image))
          .catch((error: unknown) => error)
        expect(failed).toBeInstanceOf(ImageError)
      })
    }
  })

  describe('info', () => {
    // Where the L1 table is not in the file, the header still tells what it tells.
    const headerOnly = /-(l1-off-outside|truncated-l1)\./
    for (const fixture of fixtures.filter(
      ({ file, info, expect }) => info?.json && (expect !== 'accepted-by-qemu' || headerOnly.test(file)),
    )) {
      it(fixture.file, async () => {
        await using image = await open(fixture, { inspect: true })
        const info = await image.info()
        const json = fixture.info?.json as Record<string, unknown>
        expect(info.virtualSize).toBe(json['virtual-size'])
        expect(info.clusterSize).toBe(json['cluster-size'])
        expect(info.dirty).toBe(json['dirty-flag'])
        expect(info.encrypted).toBe(json.encrypted ?? false)
        expect(info.specific).toEqual((json['format-specific'] as { data: unknown }).data)
        expect(info.backing?.name).toBe(json['backing-filename'])
        expect(info.backing?.format).toBe(json['backing-filename-format'])
        const snapshots = info.snapshots?.map((snapshot) => ({
          ...(snapshot.icount !== undefined && { icount: snapshot.icount }),
          'vm-clock-nsec': snapshot.vmClock.nanoseconds,
          name: snapshot.name,
          'date-sec': snapshot.date.seconds,
          'date-nsec': snapshot.date.nanoseconds,
          'vm-clock-sec': snapshot.vmClock.seconds,
          id: snapshot.id,
          'vm-state-size': snapshot.vmStateSize,
        }))
        expect(snapshots).toEqual(json.snapshots ?? [])
      })
    }
  })

  describe('map: as qemu-img tells it, but for holes of the host', () => {
    // Holes of a raw backing file are zeros there and here nobody's: images with one are left out.
    const alone = open_.filter(
      ({ info, virtualSize }) => !info?.json?.['backing-filename'] && virtualSize !== 0,
    )
    for (const fixture of alone.filter((entry) => entry.expect === 'ok' && fixtureMap(entry))) {
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

  describe('snapshots', () => {
    for (const fixture of open_.filter(({ snapshots, expect }) => snapshots && expect === 'ok')) {
      it(fixture.file, async () => {
        await using image = await open(fixture)
        const list = await image.snapshots?.list()
        expect(list?.map(({ id, name, vmStateSize }) => ({ id, name, vmStateSize }))).toEqual(
          fixture.snapshots?.map(({ id, name, vmStateSize }) => ({ id, name, vmStateSize })),
        )
        for (const { id, name, content } of fixture.snapshots ?? []) {
          await using disk = await image.snapshots?.open(id)
          const truth = fixture.snapshotTruth?.find((entry) => entry.name === name)
          const read = await digest(disk as DiskImage)
          if (truth)
            expect({ sha256: read, length: disk?.size }).toMatchObject({
              sha256: truth.sha256,
              length: truth.length,
            })
          else expect(read).toBe(content.sha256)
        }
      })
    }
  })
})
