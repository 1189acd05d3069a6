import { type DiskImage, ImageError } from '@img/core'
import { sameContent } from '../compare.js'
import { fill, pattern } from '../content.js'
import { check, fail, outcome, refused, tell, works } from '../fault.js'
import { ImageFiles } from '../image-files.js'
import { type Kit, nameOf, type Values } from '../kit.js'
import { fullDisk, makeBacking, makeOverlay, mustOverlay, type Overlay } from '../overlays.js'
import { type It, notApplicable } from '../runner.js'
import { Session, using } from '../session.js'
import { walk } from './extents.js'

/** Clusters of an overlay. */
const clusters = 6

/** Backing files to lie under one: by size. */
const under = [
  ['a backing file of its size', clusters],
  ['a smaller backing file', 3],
  ['a larger backing file', 9],
] as const

/** Overlays over backing files. */
export function chains(kit: Kit, it: It): void {
  const { name, createOptions } = kit.subject.format
  if (createOptions?.backing_file === undefined) return
  for (const values of kit.variants) {
    for (const over of new Set([name, 'raw'])) {
      it(`shows backing files of format ${over} through overlays made with ${nameOf(values)}, or makes none`, async () => {
        await eachOverlay(kit, values, over, async (overlay, what) => {
          await using(kit, overlay.files.fork(), {}, async (image) => {
            await sameContent(image, overlay.content, what)
            check(image.backing !== undefined, `${what}: core was told of no backing file`)
            await layers(image)
          })
        })
      })
    }

    it(`writes into overlays made with ${nameOf(values)}, and not beneath`, async () => {
      if (!(await kit.abilities(values)).write) notApplicable('this format is not written in place')
      for (const over of new Set([name, 'raw'])) {
        await eachOverlay(kit, values, over, (overlay, what) => writeOver(kit, overlay, what))
      }
    })

    it(`refuses another backing file than an overlay made with ${nameOf(values)} records, if it does`, async () => {
      const unit = await kit.unit(values)
      const over = await makeBacking(kit, values, name, fullDisk(unit * clusters + 512))
      const overlay = await makeOverlay(kit, values, over, over.content.size, mustOverlay(kit, values))
      if (!overlay) return
      const records = await using(
        kit,
        overlay.files.fork(),
        {},
        async ({ driver }) => driver.checkBacking !== undefined,
      )
      if (!records) return
      const others = await kit.make(fullDisk(unit * clusters + 512), { values })
      const swapped = new ImageFiles(overlay.files.main.fork(), [[overlay.backingName, others.main]])
      const session = new Session(kit, swapped)
      await refused('opening an overlay over another backing file', () => session.open(), 'IMG_CORRUPT')
      session.assertClosed()
    })
  }
}

/** Tries overlays over backing files of all sizes; some of them a format may refuse to make. */
async function eachOverlay(
  kit: Kit,
  values: Values,
  over: string,
  run: (overlay: Overlay, what: string) => Promise<void>,
): Promise<void> {
  const unit = await kit.unit(values)
  for (const [which, units] of under) {
    const backing = await makeBacking(kit, values, over, fullDisk(unit * units + 512))
    const same = units === clusters
    const required = same && over === kit.subject.format.name && mustOverlay(kit, values)
    const size = same ? backing.content.size : unit * clusters + 512
    const overlay = await makeOverlay(kit, values, backing, size, required)
    if (overlay) await run(overlay, `an overlay over ${which} of format ${over}`)
  }
}

/** The extents of an overlay name the layer that the data comes from. */
async function layers(image: DiskImage): Promise<void> {
  const extents = await walk(image, 0, image.size, false)
  const unit = image.clusterSize
  const own = extents.find(({ offset, length }) => offset <= unit && offset + length > unit)
  check(own?.depth === 0, `the extent at ${unit}, which the overlay holds, is of depth ${own?.depth}`)
  check(
    extents[0]?.depth === 1,
    `the extent at 0, which the backing file holds, is of depth ${extents[0]?.depth}`,
  )
}

async function writeOver(kit: Kit, overlay: Overlay, what: string): Promise<void> {
  const files = overlay.files.fork()
  const content = overlay.content.fork()
  const below = files.others.get(overlay.backingName)?.toBytes()
  await using(kit, files, { writable: true }, async (image) => {
    const unit = image.clusterSize
    // Less than a cluster: the rest of it has to be copied up.
    const spots = [
      [5, 100],
      [unit * 3 + unit - 1, 2],
      [content.size - 1, 1],
    ] as const
    for (const [offset, length] of spots) {
      fill(content, offset, length, 51)
      await works(`write(${offset}, ${length})`, async () =>
        image.write?.(offset, pattern(offset, length, 51)),
      )
    }
    await sameContent(image, content, `${what}, after writing less than a cluster`)
    content.zero(0, unit + 7)
    await works('writeZeroes', async () => image.writeZeroes?.(0, unit + 7))
    content.zero(unit * 4, unit)
    await works('writeZeroes', async () => image.writeZeroes?.(unit * 4, unit, { unmap: false }))
    await sameContent(image, content, `${what}, after writing zeros over the backing file`)
    if (image.resize) await growOver(image, content, unit, what)
  })
  await using(kit, files, {}, (image) => sameContent(image, content, `${what}, opened again`))
  const now = files.others.get(overlay.backingName)?.toBytes()
  const changed = below?.findIndex((byte, i) => byte !== now?.[i]) ?? -1
  check(changed < 0, `${what}: byte ${changed} of the backing file was changed`)
}

/** Growing shows zeros, also where the backing file is larger; shrinking and growing brings nothing back. */
async function growOver(
  image: DiskImage,
  content: Overlay['content'],
  unit: number,
  what: string,
): Promise<void> {
  for (const size of [unit * 8, unit * 2 + 512, unit * 7]) {
    const result = await outcome(() => image.resize?.(size, { shrink: true }))
    if (result.failed) {
      if (!ImageError.is(result.error))
        fail(`resize(${size}) failed with ${tell(result.error)}`, result.error)
      await sameContent(image, content, `${what}, after a refused resize`)
      continue
    }
    content.truncate(size)
    await sameContent(image, content, `${what}, after resize(${size})`)
  }
}
