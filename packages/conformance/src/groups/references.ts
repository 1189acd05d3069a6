import type { Reference } from '@img/core'
import { smallDisk } from '../content.js'
import { check, outcome, refused, works } from '../fault.js'
import { type Kit, nameOf, type Specimen } from '../kit.js'
import { ownOverlay } from '../overlays.js'
import type { It } from '../runner.js'
import { Session } from '../session.js'

/** Files that an image names are opened only with leave. */
export function references(kit: Kit, it: It): void {
  for (const source of kit.sources) {
    it(`opens nothing beside ${source.name} without leave`, async () => {
      await opensNothing(kit, await source.specimen())
    })
  }

  for (const values of kit.variants) {
    if (!kit.subject.format.createOptions?.backing_file) break
    it(`opens no backing file without leave, in overlays made with ${nameOf(values)}`, async () => {
      const overlay = await ownOverlay(kit, values)
      if (overlay) await opensNothing(kit, overlay)
    })
  }

  it('makes no other file beside a new image unasked', async () => {
    for (const values of kit.variants) {
      const { files } = await kit.source(values, smallDisk).specimen()
      const named = Object.values(values).map(String)
      for (const name of files.others.keys()) {
        check(
          named.some((value) => value.includes(name)),
          `${JSON.stringify(name)} was made beside the new image, and no option named it`,
        )
      }
    }
  })
}

async function opensNothing(kit: Kit, specimen: Specimen): Promise<void> {
  await describes(kit, specimen)
  await asksLeave(kit, specimen)
  await leavesBacking(kit, specimen)
}

async function describes(kit: Kit, { files, openOptions }: Specimen): Promise<void> {
  const session = new Session(kit, files.fork(), { inspect: true, openOptions })
  const image = await works('opening for information', () => session.open())
  await works('info', () => image.info())
  await works('listing snapshots', async () => image.snapshots?.list())
  await works('closing', () => image.close())
  session.assertClosed()
  // Core lets nothing through here: only the driver alone shows what it would have asked for.
  const alone = new Session(kit, files.fork(), { inspect: true, openOptions })
  const driver = await works('opening the driver for information', () => alone.openDriver())
  await works('info', async () => driver.info())
  await works('closing the driver', async () => driver.close?.())
  const [asked] = alone.asked
  check(asked === undefined, `${told(asked)} was asked for, to describe the image`)
  alone.assertLawful()
}

async function asksLeave(kit: Kit, { files, openOptions }: Specimen): Promise<void> {
  const session = new Session(kit, files.fork(), { deny: true, openOptions })
  const opened = await outcome(() => session.open())
  if (opened.failed) {
    await refused('opening without leave', () => Promise.reject(opened.error), 'IMG_REFERENCE_DENIED')
    check(session.asked.length > 0, 'opening failed with IMG_REFERENCE_DENIED, but nothing was asked for')
  } else {
    await opened.value.close()
    const [denied] = session.asked
    check(denied === undefined, `${told(denied)} was denied, and opening went on as if it were not there`)
  }
  session.assertClosed()
  for (const name of files.others.keys()) {
    const without = files.fork()
    without.others.delete(name)
    const missing = new Session(kit, without, { openOptions })
    await refused(`opening without ${name}`, () => missing.open(), 'IMG_REFERENCE_MISSING')
    missing.assertClosed()
  }
}

async function leavesBacking(kit: Kit, { files, openOptions }: Specimen): Promise<void> {
  const session = new Session(kit, files.fork(), { chain: false, openOptions })
  const image = await works('opening without its chain', () => session.open())
  const wrong = session.asked.find(({ kind }) => kind === 'backing' || kind === 'parent')
  const { backing } = image.driver
  await works('closing', () => image.close())
  check(wrong === undefined, `${told(wrong)} was opened by the driver; it is to name it only`)
  session.assertClosed()
  if (!backing) return
  const named = typeof backing.name === 'string' && backing.name !== ''
  check(named, 'the driver names a backing file without a name')
  const known = backing.kind === 'backing' || backing.kind === 'parent'
  check(known, `the backing file is a reference of kind ${backing.kind}`)
}

function told(reference: Reference | undefined): string {
  return reference ? `${reference.kind} file ${JSON.stringify(reference.name)}` : 'nothing'
}
