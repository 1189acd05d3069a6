import type { DiskImage } from '@img/core'
import { sameContent } from '../compare.js'
import { fill, mixedDisk, pattern } from '../content.js'
import { check, refused, works } from '../fault.js'
import { type Kit, nameOf, type Source, type Values } from '../kit.js'
import { type It, notApplicable } from '../runner.js'
import { using } from '../session.js'
import { walk } from './extents.js'
import { open, sameAs } from './reads.js'

/** Internal snapshots. */
export function snapshots(kit: Kit, it: It): void {
  for (const source of kit.samples) {
    it(`lists and opens the snapshots of ${source.name}`, () => openAll(kit, source))
  }

  for (const values of kit.variants) {
    it(`takes, keeps, applies and deletes snapshots with ${nameOf(values)}`, async () => {
      await openAll(kit, kit.source(values, mixedDisk))
      await change(kit, values)
    })
  }
}

async function openAll(kit: Kit, source: Source): Promise<void> {
  const specimen = await source.specimen()
  await open(kit, specimen, {}, async (image) => {
    if (!image.snapshots) notApplicable('this format has no snapshots')
    const list = await works('listing snapshots', () => image.snapshots?.list())
    const ids = (list ?? []).map(({ id }) => id)
    check(new Set(ids).size === ids.length, `two snapshots have the same id: ${ids.join(', ')}`)
    for (const { id, virtualSize } of list ?? []) {
      const snapshot = await works(`opening snapshot ${id}`, () => openSnapshot(image, id))
      check(
        snapshot.size === virtualSize,
        `snapshot ${id} opens with ${snapshot.size} bytes, the list says ${virtualSize}`,
      )
      check(snapshot.write === undefined, `snapshot ${id} can be written`)
      await walk(snapshot, 0, snapshot.size, true)
      await works(`reading snapshot ${id}`, () =>
        snapshot.read(0, new Uint8Array(Math.min(snapshot.size, 2 ** 20))),
      )
      await works(`closing snapshot ${id}`, () => snapshot.close())
      await refused(
        `reading snapshot ${id} after close`,
        () => snapshot.read(0, new Uint8Array(1)),
        'IMG_CLOSED',
      )
    }
    await refused(
      'opening a snapshot that is not there',
      () => openSnapshot(image, 'no such snapshot'),
      'IMG_NOT_FOUND',
    )
    await sameAs(image, specimen, `${source.name}, after its snapshots were closed`)
  })
}

async function change(kit: Kit, values: Values): Promise<void> {
  const abilities = await kit.abilities(values)
  if (!abilities.snapshots.create) notApplicable('this format takes no snapshots')
  const specimen = await kit.source(values, mixedDisk).specimen()
  const first = (specimen.content ?? notApplicable('its content is not known')).fork()
  const second = first.fork()
  const unit = await kit.unit(values)
  fill(second, 100, unit * 2, 31)
  second.zero(unit * 8, unit)
  const files = specimen.files.fork()
  await using(kit, files, { writable: true }, async (image) => {
    const taken = await works('taking a snapshot', async () => image.snapshots?.create?.('before'))
    check(taken?.name === 'before', `the snapshot taken is called ${JSON.stringify(taken?.name)}`)
    await sameContent(image, first, 'after a snapshot was taken')
    await works('write', async () => image.write?.(100, pattern(100, unit * 2, 31)))
    await works('writeZeroes', async () => image.writeZeroes?.(unit * 8, unit))
    await sameContent(image, second, 'written after a snapshot was taken')
    await sameSnapshot(image, 'before', first)
    await works('taking another', async () => image.snapshots?.create?.('after'))
  })
  await using(kit, files, { writable: true }, async (image) => {
    const list = (await image.snapshots?.list()) ?? []
    check(
      list.map(({ name }) => name).join() === 'before,after',
      `the list says ${list.map(({ name }) => name).join()}`,
    )
    await sameSnapshot(image, 'before', first)
    await sameSnapshot(image, 'after', second)
    if (abilities.snapshots.apply) {
      await works('apply', async () => image.snapshots?.apply?.('before'))
      await sameContent(image, first, 'after applying a snapshot')
      await works('write', async () => image.write?.(0, pattern(0, unit, 32)))
      await sameSnapshot(image, 'before', first)
      await works('apply', async () => image.snapshots?.apply?.('after'))
      await sameContent(image, second, 'after applying the other snapshot')
    }
    if (abilities.snapshots.delete) {
      await works('delete', async () => image.snapshots?.delete?.('before'))
      await refused('opening a deleted snapshot', () => openSnapshot(image, 'before'), 'IMG_NOT_FOUND')
      await works('write', async () => image.write?.(0, pattern(0, unit, 33)))
      fill(second, 0, unit, 33)
    }
  })
  await using(kit, files, {}, async (image) => {
    if (abilities.snapshots.delete) await sameContent(image, second, 'opened again')
  })
  for (const action of ['apply', 'delete'] as const) {
    if (!abilities.snapshots[action]) continue
    await using(kit, files, { writable: true }, async (image) => {
      await refused(
        `${action} of a snapshot that is not there`,
        async () => image.snapshots?.[action]?.('nothing'),
        'IMG_NOT_FOUND',
      )
    })
  }
}

async function openSnapshot(image: DiskImage, id: string): Promise<DiskImage> {
  const snapshot = await image.snapshots?.open(id)
  check(snapshot, 'opening a snapshot gave nothing')
  return snapshot
}

async function sameSnapshot(
  image: DiskImage,
  name: string,
  content: Parameters<typeof sameContent>[1],
): Promise<void> {
  const snapshot = await works(`opening snapshot ${name}`, () => openSnapshot(image, name))
  await sameContent(snapshot, content, `snapshot ${name}`)
  await works(`closing snapshot ${name}`, () => snapshot.close())
}
