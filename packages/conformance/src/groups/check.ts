import { type CheckFinding, type CheckOptions, type CheckResult, type DiskImage, ImageError } from '@img/core'
import { mixedDisk, smallDisk } from '../content.js'
import { check, outcome, refused, tell, works } from '../fault.js'
import type { ImageFiles } from '../image-files.js'
import { type Kit, nameOf, type Source, type Specimen, type Values } from '../kit.js'
import { doDeeds } from '../power/deeds.js'
import { equal } from '../power/history.js'
import { Log } from '../power/log.js'
import { type It, notApplicable } from '../runner.js'
import { using } from '../session.js'

/** Clusters above this many bytes are large. */
const largeUnit = 256 * 1024

/** Checking and repairing, of formats whose drivers have it. */
export function checks(kit: Kit, it: It): void {
  for (const source of kit.smallSources) {
    it(`is checked without being changed: ${source.name}`, () => onlyLooks(kit, source))
  }
  for (const values of kit.variants) {
    it(`finds nothing wrong with an image made with ${nameOf(values)}, before and after it is written`, () =>
      findsNothing(kit, values))
    it(`repairs what a power cut left, and loses nothing, with ${nameOf(values)}`, () =>
      repairsCuts(kit, values))
  }
}

/** Checks an image, and demands that numbers and findings belong together. */
async function run(image: DiskImage, options: CheckOptions = {}): Promise<CheckResult> {
  const found: CheckFinding[] = []
  const onFinding = (finding: CheckFinding): void => void found.push(finding)
  const { repair, dryRun } = options
  const what = repair === undefined ? 'check' : `check (repair ${repair}${dryRun ? ', only told' : ''})`
  const result = await works(what, () => image.check?.({ ...options, onFinding }))
  check(result, `${what} gave no result`)
  for (const [name, value] of Object.entries(result)) {
    const lawful = value === undefined || (Number.isSafeInteger(value) && value >= 0)
    check(lawful, `${what}: ${name} is ${value}`)
  }
  for (const { message } of found)
    check(message !== '' && !message.includes('\n'), `${what} found something that is not one line`)
  const { corruptions, leaks, checkErrors, corruptionsFixed, leaksFixed } = result
  const counted = corruptions + leaks + checkErrors + (corruptionsFixed ?? 0) + (leaksFixed ?? 0)
  check(found.length > 0 === counted > 0, `${what} tells of ${found.length} findings and counts ${counted}`)
  if (repair !== undefined) return result
  check(corruptionsFixed === undefined && leaksFixed === undefined, `${what} tells of repairs`)
  check(!found.some(({ fixed }) => fixed), `${what} says that it repaired something`)
  return result
}

/** An image opened to be read, and one opened to be repaired: neither is written to by looking. */
async function onlyLooks(kit: Kit, source: Source): Promise<void> {
  const specimen = await source.specimen()
  const files = specimen.files.fork()
  const { openOptions } = specimen
  await using(kit, files, { chain: false, openOptions }, async (image) => {
    if (!image.check) notApplicable('this format has no check')
    await run(image)
    await run(image, { repair: 'all', dryRun: true })
    for (const repair of ['leaks', 'all'] as const) {
      await refused(
        `repair (${repair}) of an image opened to be read`,
        () => image.check?.({ repair }),
        'IMG_READ_ONLY',
      )
    }
  })
  const repairing = using(
    kit,
    files,
    { chain: false, openOptions, writable: true, repair: true },
    async (image) => {
      check(image.check, 'check is gone where the image is opened to be repaired')
      await run(image, { repair: 'all', dryRun: true })
    },
  )
  await repairing.catch((error: Error) => {
    // A format that is only read.
    if (!ImageError.is(error.cause, 'IMG_UNSUPPORTED')) throw error
  })
  check(sameFile(files, specimen.files), 'checking changed the image')
}

async function findsNothing(kit: Kit, values: Values): Promise<void> {
  const unit = await kit.unit(values)
  const specimen = await kit.source(values, unit > largeUnit ? smallDisk : mixedDisk).specimen()
  const files = specimen.files.fork()
  const clean = async (image: DiskImage, when: string): Promise<void> => {
    if (!image.check) notApplicable('this format has no check')
    const { corruptions, leaks, checkErrors } = await run(image)
    const none = corruptions === 0 && leaks === 0 && checkErrors === 0
    check(none, `${when}: ${corruptions} corruptions, ${leaks} leaks, ${checkErrors} errors are found`)
  }
  await using(kit, files, {}, (image) => clean(image, 'a new image'))
  const abilities = await kit.abilitiesOf(specimen)
  if (!abilities.write || !specimen.content) return
  const random = kit.random(`check ${nameOf(values)}`)
  const log = new Log()
  const { content } = specimen
  await doDeeds({ kit, files, content, backing: undefined, abilities, unit, log, random }, 24)
  // Flushed and closed by this opening: the deeds end as a crash would.
  await using(kit, files, { writable: true }, async (image) => {
    if (await leavesLeaks(image)) await run(image, { repair: 'leaks' })
    await works('write', async () => image.write?.(0, new Uint8Array(Math.min(512, image.size)).fill(3)))
    await works('flush', async () => image.flush?.())
    await clean(image, 'an image that was just written')
  })
  await using(kit, files, {}, (image) => clean(image, 'an image that was written and closed'))
}

async function leavesLeaks(image: DiskImage): Promise<boolean> {
  const { leaks } = await run(image)
  return leaks > 0
}

async function repairsCuts(kit: Kit, values: Values): Promise<void> {
  const unit = await kit.unit(values)
  const specimen = await kit.source(values, smallDisk).specimen()
  const { files, content } = specimen
  const abilities = await kit.abilitiesOf(specimen)
  await using(kit, files.fork(), {}, async (image) => {
    if (!image.check) notApplicable('this format has no check')
  })
  if (!abilities.write || !content) notApplicable('this format is not written in place')
  const random = kit.random(`repair ${nameOf(values)}`)
  const log = new Log()
  const scene = { kit, files: files.fork(), content, backing: undefined, abilities, unit, log, random }
  await doDeeds(scene, 20)
  const share = Math.min(1, kit.times(unit > largeUnit ? 6 : 24) / log.countCuts(1))
  for (const cut of log.cuts(files, random, 1, () => random.chance(share))) {
    await repaired(kit, cut.files, cut.how)
  }
}

/** Repairs a copy in each way: leaks cost nothing, and afterwards there is nothing left to find. */
async function repaired(kit: Kit, start: ImageFiles, how: string): Promise<void> {
  const before = await shown(kit, start)
  for (const repair of ['leaks', 'all'] as const) {
    const files = start.fork()
    const when = `after a cut with ${how}, repaired (${repair})`
    const planned = await using(kit, files, { repair: true }, (image) => run(image, { repair, dryRun: true }))
    check(sameFile(files, start), `${when}: telling what a repair would do changed the image`)
    const result = await using(kit, files, { writable: true, repair: true }, (image) =>
      run(image, { repair }),
    )
    const same = JSON.stringify(result) === JSON.stringify(planned)
    check(same, `${when}: ${JSON.stringify(result)} was told as ${JSON.stringify(planned)}`)
    const { corruptions, leaks } = await using(kit, files, {}, (image) => run(image))
    // Repairing one thing may set another right.
    const known = corruptions <= result.corruptions && leaks <= result.leaks
    const left = `${corruptions} corruptions and ${leaks} leaks`
    check(known, `${when}: ${left} are found again, told were ${JSON.stringify(result)}`)
    if (repair === 'all') {
      check(corruptions === 0 && leaks === 0, `${when}: ${left} are left`)
    }
    if (before === undefined) continue
    const now = await shown(kit, files)
    check(now !== undefined && now.length === before.length, `${when}: the disk cannot be read any more`)
    for (const [index, bytes] of now.entries()) {
      const what = index === 0 ? 'the disk' : `snapshot ${index}`
      check(equal(bytes, before[index] as Uint8Array), `${when}: ${what} holds something else`)
    }
  }
}

/** What the disk and its snapshots hold; undefined where that cannot be read. */
async function shown(kit: Kit, files: ImageFiles): Promise<Uint8Array[] | undefined> {
  return using(kit, files.fork(), {}, async (image) => {
    const images = [image]
    for (const { id } of (await image.snapshots?.list()) ?? []) {
      const opened = await image.snapshots?.open(id)
      if (opened) images.push(opened)
    }
    const contents: Uint8Array[] = []
    for (const one of images) {
      const bytes = new Uint8Array(one.size)
      const read = await outcome(() => one.read(0, bytes))
      check(!read.failed, `it cannot be read: ${read.failed ? tell(read.error) : ''}`)
      contents.push(bytes)
    }
    for (const snapshot of images.slice(1)) await snapshot.close()
    return contents
  })
}

function sameFile(a: ImageFiles, b: Specimen['files']): boolean {
  if (a.main.size !== b.main.size) return false
  return equal(a.main.toBytes(), b.main.toBytes())
}
