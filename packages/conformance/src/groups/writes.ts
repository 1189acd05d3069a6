import { type DiskImage, openImage } from '@img/core'
import fc from 'fast-check'
import { sameContent } from '../compare.js'
import { fill, mixedDisk, pattern, smallDisk } from '../content.js'
import {
  ConformanceError,
  check,
  fail,
  onlyImageError,
  outcome,
  outOfRange,
  refused,
  tell,
  works,
} from '../fault.js'
import { type Kit, nameOf, type Specimen, type Values } from '../kit.js'
import { Bench, type Model } from '../model/bench.js'
import * as commands from '../model/commands.js'
import { ownOverlay } from '../overlays.js'
import { type It, notApplicable } from '../runner.js'
import { Session, using } from '../session.js'
import type { SparseBytes } from '../sparse-bytes.js'
import { kitStorage } from '../storages/kit-storage.js'

/** Writing in place, against a plain array. */
export function writes(kit: Kit, it: It): void {
  for (const values of kit.variants) {
    it(`is written in place where opened for it, or offers nothing that writes, made with ${nameOf(values)}`, async () => {
      await offersNothing(kit, values, false)
      const { write } = await kit.abilities(values)
      if (!write) return offersNothing(kit, values, true)
      await needsWritableStorage(kit, values)
      await keeps(kit, values)
    })

    it(`behaves like a plain array, made with ${nameOf(values)}`, async () => {
      await modelTest(kit, values, await kit.source(values, mixedDisk).specimen())
      if (!kit.subject.format.createOptions?.backing_file) return
      const overlay = await ownOverlay(kit, values)
      if (overlay) await modelTest(kit, values, overlay, overlay.backing)
    })
  }
}

/** What can be read only, by nature or by how it was opened. */
async function offersNothing(kit: Kit, values: Values, writable: boolean): Promise<void> {
  const { files } = await kit.source(values, smallDisk).specimen()
  const session = new Session(kit, files.fork(), { writable })
  const opened = await outcome(() => session.open())
  if (opened.failed) {
    onlyImageError('opening the image for writing', opened.error)
    return
  }
  const image = opened.value
  for (const member of ['write', 'writeZeroes', 'discard', 'resize'] as const) {
    if (writable && member === 'resize') continue
    check(image[member] === undefined, `${member} is offered although the image is opened to be read`)
  }
  await image.close()
  session.assertClosed()
}

async function needsWritableStorage(kit: Kit, values: Values): Promise<void> {
  const { files } = await kit.source(values, smallDisk).specimen()
  const storage = kitStorage(files.main.fork(), { label: 'read-only image of the test', readOnly: true })
  const { leave } = new Session(kit, files.fork())
  await refused(
    'opening a storage without write for writing',
    () => openImage(storage, { format: kit.format, registry: kit.registry, writable: true, ...leave }),
    'IMG_READ_ONLY',
  )
}

async function keeps(kit: Kit, values: Values): Promise<void> {
  const specimen = await kit.source(values, mixedDisk).specimen()
  const content = known(specimen.content).fork()
  const files = specimen.files.fork()
  const unit = await kit.unit(values)
  const spots = [
    [unit * 2 + 3, unit + 5],
    [content.size - 700, 700],
    [0, 1],
    [unit * 4, unit],
  ] as const
  await using(kit, files, { writable: true }, async (image) => {
    await pastEnd(image)
    for (const [offset, length] of spots) {
      fill(content, offset, length, 41)
      await works(`write(${offset}, ${length})`, async () =>
        image.write?.(offset, pattern(offset, length, 41)),
      )
    }
    await sameContent(image, content, 'after writing')
  })
  await using(kit, files, {}, (image) => sameContent(image, content, 'written, closed and opened again'))
}

async function pastEnd(image: DiskImage): Promise<void> {
  const { size } = image
  const one = new Uint8Array(1)
  await outOfRange('writing past the end', async () => image.write?.(size, one))
  await outOfRange('writing before the start', async () => image.write?.(-1, one))
  await outOfRange('writing over the end', async () => image.write?.(size - 1, new Uint8Array(2)))
  await outOfRange('writing zeros past the end', async () => image.writeZeroes?.(size - 1, 2))
  if (image.discard) await outOfRange('discarding past the end', async () => image.discard?.(size - 1, 2))
  await works('writing nothing at the end', async () => image.write?.(size, new Uint8Array(0)))
}

function known(content: SparseBytes | undefined): SparseBytes {
  check(content, 'the content of the image is not known')
  return content
}

async function modelTest(
  kit: Kit,
  values: Values,
  specimen: Specimen,
  backing?: SparseBytes | undefined,
): Promise<void> {
  const abilities = await kit.abilitiesOf(specimen)
  if (!abilities.write) notApplicable('this format is not written in place')
  const unit = await kit.unit(values)
  const place = fc.record({
    at: fc.nat(12),
    shift: fc.constantFrom(0, 0, 0, -512, -1, 1, 511, 512, Math.floor(unit / 2)),
    units: fc.nat(3),
    extra: fc.constantFrom(0, 0, -1, 1, 300, 512),
  })
  const seed = fc.integer({ min: 50, max: 250 })
  const list = [
    fc.tuple(place, seed).map(([at, from]) => commands.write(at, from)),
    fc.tuple(place, seed).map(([at, from]) => commands.write(at, from)),
    fc.tuple(place, fc.boolean()).map(([at, unmap]) => commands.writeZeroes(at, unmap)),
    place.map((at) => commands.discard(at)),
    fc.array(seed, { minLength: 2, maxLength: 6 }).map((seeds) => commands.writeMany(seeds)),
    fc.constant(commands.flush),
    fc.constant(commands.reopen),
    fc.integer({ min: -24, max: 24 }).map((sectors) => commands.resize(sectors)),
    fc.constant(commands.takeSnapshot),
    fc.nat(9).map((which) => commands.applySnapshot(which)),
    fc.nat(9).map((which) => commands.deleteSnapshot(which)),
  ]
  let turn = 0
  const property = fc.asyncProperty(fc.commands(list, { maxCommands: 40 }), async (run) => {
    const content = known(specimen.content).fork()
    const model: Model = { abilities, unit, content, snapshots: new Map(), backing, size: content.size }
    const bench = new Bench(kit, specimen.files.fork(), turn++ % 2 === 0)
    await bench.open()
    try {
      await fc.asyncModelRun(() => ({ model, real: bench }), run)
      await commands.reopen.run(model, bench)
      await bench.close()
    } catch (error) {
      await bench.abandon()
      throw error
    }
  })
  // Large clusters mean large disks.
  const runs = kit.times(unit > 256 * 1024 ? 4 : 30)
  const details = await fc.check(property, { numRuns: runs, seed: kit.seed })
  if (!details.failed) return
  const { errorInstance: error } = details
  const message = error instanceof ConformanceError ? error.message : `unexpected ${tell(error)}`
  fail(`${message}; found by: ${String(details.counterexample?.[0])}`, error)
}
