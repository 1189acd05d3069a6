import { createWriter, ImageError, type ImageWriter } from '@img/core'
import { smallDisk } from '../content.js'
import { check, fail, outcome, refused, tell, works } from '../fault.js'
import { ImageFiles } from '../image-files.js'
import { type Kit, nameOf } from '../kit.js'
import type { It } from '../runner.js'
import { Session } from '../session.js'
import { sameAs } from './reads.js'

/** Opening and closing: who closes what, how often, and what works afterwards. */
export function lifecycle(kit: Kit, it: It): void {
  for (const source of kit.sources) {
    it(`closes ${source.name} any number of times, and refuses to use it then`, async () => {
      const { files, openOptions } = await source.specimen()
      const session = new Session(kit, files.fork(), { openOptions })
      const image = await works('opening the image', () => session.open())
      const into = new Uint8Array(Math.min(1, image.size))
      await works('reading', () => image.read(0, into))
      await works('closing', () => image.close())
      await works('closing again', () => image.close())
      await works('disposing of it after closing', async () => image[Symbol.asyncDispose]())
      session.assertClosed()
      const use: readonly (readonly [string, () => unknown])[] = [
        ['read after close', () => image.read(0, into)],
        ['extents after close', async () => image.extents()[Symbol.asyncIterator]().next()],
        ['info after close', () => image.info()],
        ['snapshots.open after close', () => image.snapshots?.open('1')],
      ]
      for (const [what, action] of use) {
        if (what.startsWith('snapshots') && !image.snapshots) continue
        await refused(what, async () => action(), 'IMG_CLOSED')
      }
    })

    it(`leaves the file of ${source.name} to its owner`, async () => {
      const { files, openOptions } = await source.specimen()
      const session = new Session(kit, files.fork(), { openOptions })
      const driver = await works('opening the driver', () => session.openDriver())
      await works('closing the driver', async () => driver.close?.())
      check(session.main.closed === 0, 'the driver closed the storage that it was given')
      for (const { label, closed } of session.storages.slice(1))
        check(closed > 0, `the driver left ${label} open`)
      session.assertLawful()
    })

    it(`can have ${source.name} open twice at once`, async () => {
      const specimen = await source.specimen()
      const sessions = [0, 1].map(
        () => new Session(kit, specimen.files.fork(), { openOptions: specimen.openOptions }),
      )
      const [one, two] = await Promise.all(sessions.map((session) => works('opening', () => session.open())))
      await works('closing the first', async () => one?.close())
      if (two) await sameAs(two, specimen, `${source.name}, after another opening of it was closed`)
      await works('closing the second', async () => two?.close())
      for (const session of sessions) session.assertClosed()
    })
  }

  it('closes what it opened where opening fails, and not the file itself', async () => {
    for (const source of kit.smallSources) {
      const { files, openOptions } = await source.specimen()
      for (const size of [0, Math.floor(files.main.size / 2)]) {
        const cut = files.fork()
        cut.main.truncate(size)
        const session = new Session(kit, cut, { openOptions })
        const opened = await outcome(() => session.openDriver())
        if (!opened.failed) await works('closing the driver', async () => opened.value.close?.())
        check(
          session.main.closed === 0,
          'the driver closed the storage that it was given, where opening failed',
        )
        for (const { label, closed } of session.storages.slice(1))
          check(closed > 0, `${label} was left open where opening failed`)
        session.assertLawful()
      }
    }
  })

  for (const values of kit.variants) {
    it(`closes a writer any number of times, made with ${nameOf(values)}`, async () => {
      const { session, writer } = await startWriter(kit, values)
      await fillFirst(kit, writer, values)
      await works('finish', () => writer.finish())
      await works('closing the writer', async () => writer.close?.())
      await works('closing the writer again', async () => writer.close?.())
      check(session.main.closed === 0, 'the writer closed the target that it was given')
      for (const { label, closed } of session.storages.slice(1))
        check(closed > 0, `the writer left ${label} open`)
    })

    it(`gives an image up whose writer is closed before finish, made with ${nameOf(values)}`, async () => {
      const { session, writer } = await startWriter(kit, values)
      if (writer.close === undefined) return
      await fillFirst(kit, writer, values)
      await works('closing the writer', async () => writer.close?.())
      const finished = await outcome(() => writer.finish())
      if (!finished.failed) fail('finish succeeded after the writer was closed: the image was given up')
      if (!ImageError.is(finished.error) && !(finished.error instanceof TypeError)) {
        fail(`finish after close failed with ${tell(finished.error)}; expected an ImageError or a TypeError`)
      }
      for (const { label, closed } of session.storages.slice(1))
        check(closed > 0, `the writer left ${label} open`)
    })
  }
}

async function startWriter(
  kit: Kit,
  values: Readonly<Record<string, unknown>>,
): Promise<{ readonly session: Session; readonly writer: ImageWriter }> {
  const session = new Session(kit, new ImageFiles(), { writable: true })
  const { size } = smallDisk(await kit.unit(values))
  const writer = await works('starting a new image', () =>
    createWriter(kit.format, session.main, { size, options: values, ...session.leave }),
  )
  return { session, writer }
}

async function fillFirst(
  kit: Kit,
  writer: ImageWriter,
  values: Readonly<Record<string, unknown>>,
): Promise<void> {
  const bytes = new Uint8Array(await kit.unit(values)).fill(0x42)
  for (let at = 0; at < bytes.length; ) {
    const room = await works(`place(${at})`, async () => writer.place(at, bytes.length - at))
    await room.storage.write(room.hostOffset, bytes.subarray(at, at + room.length))
    at += room.length
  }
}
