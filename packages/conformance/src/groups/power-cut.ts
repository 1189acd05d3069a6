import { convert, createWriter } from '@img/core'
import { deviceOf, mixedDisk, pattern, smallDisk } from '../content.js'
import { ConformanceError, check, fail, outcome, works } from '../fault.js'
import { ImageFiles } from '../image-files.js'
import { type Kit, nameOf, type Specimen, type Values } from '../kit.js'
import { ownOverlay } from '../overlays.js'
import { doDeeds } from '../power/deeds.js'
import { allowedAt, type Deed, equal, holds, holdsSnapshots, readAll } from '../power/history.js'
import { type Cut, Log } from '../power/log.js'
import type { Random } from '../random.js'
import { type It, notApplicable } from '../runner.js'
import { Session, using } from '../session.js'
import type { SparseBytes } from '../sparse-bytes.js'
import { walk } from './extents.js'

/** Clusters above this many bytes are large. */
const largeUnit = 256 * 1024
/** Bytes that the disks of all cuts of one run may have together. */
const cutBytes = 64 * 1024 * 1024

/** Power cuts and crashes: what was flushed stays, and nothing half-made looks whole. */
export function powerCut(kit: Kit, it: It): void {
  for (const values of kit.variants) {
    it(`keeps what was flushed, whatever a power cut leaves of the rest, with ${nameOf(values)}`, async () => {
      const unit = await kit.unit(values)
      // Large clusters mean large disks: a small one then.
      const layout = unit > largeUnit ? smallDisk : mixedDisk
      await cutWhileWriting(kit, values, await kit.source(values, layout).specimen())
      if (!kit.subject.format.createOptions?.backing_file || unit > largeUnit) return
      const overlay = await ownOverlay(kit, values)
      if (overlay) await cutWhileWriting(kit, values, overlay, overlay.backing)
    })

    if (kit.subject.format.probe === undefined) continue
    it(`leaves no image that looks whole and is not, where making it stops, with ${nameOf(values)}`, async () => {
      const content = smallDisk(await kit.unit(values))
      const log = new Log()
      const files = new ImageFiles()
      const session = new Session(kit, files, { writable: true, before: log.hook })
      await works('making an image', async () => {
        const options = { size: content.size, options: values, ...session.leave }
        const writer = await createWriter(kit.format, session.main, options)
        await convert(deviceOf(content), writer)
        await writer.close?.()
      })
      content.truncate(await kit.sizeOf(files, content.size, values))
      for (const cut of log.prefixes(new ImageFiles())) await refusedOrWhole(kit, cut, content)
    })
  }
}

async function refusedOrWhole(kit: Kit, { files, how }: Cut, content: SparseBytes): Promise<void> {
  const session = new Session(kit, files)
  const opened = await outcome(() => session.open())
  if (opened.failed) return
  const image = opened.value
  const what = `making it was ${how}: it opens`
  try {
    check(image.size === content.size, `${what} as a disk of ${image.size} bytes, expected ${content.size}`)
    const now = new Uint8Array(image.size)
    const read = await outcome(() => image.read(0, now))
    if (!read.failed && !equal(now, content.toBytes()))
      fail(`${what} without complaint, and what it reads is wrong`)
  } finally {
    await image.close()
  }
}

async function cutWhileWriting(
  kit: Kit,
  values: Values,
  specimen: Specimen,
  backing?: SparseBytes | undefined,
): Promise<void> {
  const { files, content } = specimen
  const abilities = await kit.abilitiesOf(specimen)
  if (!abilities.write) notApplicable('this format is not written in place')
  check(content, 'the content of the image is not known')
  const unit = await kit.unit(values)
  const tries = kit.times(unit > largeUnit ? 1 : 3)
  for (let i = 0; i < tries; i++) {
    const random = kit.random(`power cut ${nameOf(values)} ${backing ? 'overlay' : ''} ${i}`)
    const log = new Log()
    const scene = { kit, files: files.fork(), content, backing, abilities, unit, log, random }
    const deeds = await doDeeds(scene, 24)
    const cuts = kit.times(Math.max(30, Math.min(600, cutBytes / content.size)))
    const share = Math.min(1, cuts / log.countCuts(2))
    let turn = 0
    for (const cut of log.cuts(files, random, 2, () => random.chance(share))) {
      await survives(kit, cut, deeds, ++turn % 7 === 0 ? random : undefined)
    }
  }
}

async function survives(
  kit: Kit,
  cut: Cut,
  deeds: readonly Deed[],
  random: Random | undefined,
): Promise<void> {
  const allowed = allowedAt(deeds, cut.position)
  try {
    await using(kit, cut.files.fork(), {}, async (image) => {
      await holds(image, allowed)
      await holdsSnapshots(image, allowed)
      await walk(image, 0, image.size, false)
    })
    if (random) await goesOn(kit, cut.files.fork(), random)
  } catch (error) {
    if (!(error instanceof ConformanceError)) throw error
    const after = deeds.filter(({ begun }) => begun <= cut.position).map(({ name }) => name)
    const last = after.slice(-6).join(', ')
    throw new ConformanceError(
      `after a cut with ${cut.how}: ${error.message}; done last: ${last}`,
      error.cause,
    )
  }
}

/** What survived a cut can be written to, and writing to it changes nothing else. */
async function goesOn(kit: Kit, files: ImageFiles, random: Random): Promise<void> {
  const expected = await using(kit, files, { writable: true }, async (image) => {
    const bytes = await readAll(image)
    for (let i = 0; i < 3 && image.size > 0; i++) {
      const offset = random.below(image.size)
      const length = Math.min(image.size - offset, 1 + random.below(2000))
      bytes.set(pattern(offset, length, 251), offset)
      await works(`writing after the cut`, async () => image.write?.(offset, pattern(offset, length, 251)))
    }
    await works('flushing after the cut', async () => image.flush?.())
    check(equal(await readAll(image), bytes), 'writing after the cut changed what was not written to')
    return bytes
  })
  const found = await using(kit, files, {}, (image) => readAll(image))
  check(equal(found, expected), 'what was written after the cut is not there when opened again')
}
