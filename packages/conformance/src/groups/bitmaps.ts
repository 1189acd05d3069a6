import { type BitmapStore, type DiskImage, ImageError } from '@img/core'
import { sameContent } from '../compare.js'
import { fill, pattern, smallDisk } from '../content.js'
import { check, refused, works } from '../fault.js'
import { type Kit, nameOf, type Values } from '../kit.js'
import { equal, readAll } from '../power/history.js'
import { Log } from '../power/log.js'
import { type It, notApplicable } from '../runner.js'
import { using } from '../session.js'

const sector = 512
/** Clusters above this many bytes are large. */
const largeUnit = 256 * 1024

/** Persistent dirty bitmaps, of formats that can change them. */
export function bitmaps(kit: Kit, it: It): void {
  for (const values of kit.variants) {
    it(`makes, keeps, marks, clears and removes bitmaps with ${nameOf(values)}`, () => change(kit, values))
    it(`has no bitmap that misses a change, whatever a power cut leaves, with ${nameOf(values)}`, () =>
      cutWhileMarking(kit, values))
  }
}

type Span = readonly [from: number, to: number]

async function change(kit: Kit, values: Values): Promise<void> {
  const specimen = await kit.source(values, smallDisk).specimen()
  if (!(await kit.abilitiesOf(specimen)).write) notApplicable('this format is not written in place')
  const files = specimen.files.fork()
  const content = (specimen.content ?? notApplicable('its content is not known')).fork()
  const unit = await kit.unit(values)
  const wrote = async (image: DiskImage, offset: number, seed: number): Promise<void> => {
    const length = Math.min(700, image.size - offset)
    fill(content, offset, length, seed)
    await works('write', async () => image.write?.(offset, pattern(offset, length, seed)))
  }
  await using(kit, files, { writable: true }, async (image) => {
    const store = changeable(image)
    await addFirst(store, 'one')
    await works('add', async () => store.add('two', { disabled: true }))
    await refused('adding a bitmap whose name is taken', () => store.add('one'), 'IMG_EXISTS')
    await wrote(image, 100, 41)
    covers(await spans(image, 'one'), [[100, Math.min(800, image.size)]], 'a write')
    check((await spans(image, 'two')).length === 0, 'a bitmap that is disabled marks a write')
    await works('mark', async () => store.mark('two', [{ offset: 0, length: 1 }]))
    covers(await spans(image, 'two'), [[0, 1]], 'marking')
    await listed(image, ['one enabled', 'two disabled'])
  })
  await using(kit, files, {}, async (image) => {
    await listed(image, ['one enabled', 'two disabled'])
    covers(await spans(image, 'one'), [[100, Math.min(800, image.size)]], 'opening again')
    covers(await spans(image, 'two'), [[0, 1]], 'opening again')
    for (const member of ['add', 'remove', 'clear', 'enable', 'disable', 'mark'] as const)
      check(
        image.bitmaps?.[member] === undefined,
        `${member} is offered although the image is opened to be read`,
      )
    await sameContent(image, content, 'with bitmaps')
  })
  await using(kit, files, { writable: true }, async (image) => {
    const store = changeable(image)
    await works('disable', async () => store.disable('one'))
    await works('clear', async () => store.clear('one'))
    await works('enable', async () => store.enable('two'))
    await wrote(image, Math.max(0, Math.min(unit * 2, image.size - 700)), 42)
    check((await spans(image, 'one')).length === 0, 'a bitmap that was cleared and disabled marks something')
    const all = await spans(image, 'two')
    await works('merging', async () => store.mark('one', image.bitmaps?.dirty?.('two') ?? []))
    covers(await spans(image, 'one'), all, 'merging')
    await works('remove', async () => store.remove('two'))
    await listed(image, ['one disabled'])
    for (const member of ['remove', 'clear', 'enable', 'disable'] as const)
      await refused(`${member} of a bitmap that is gone`, () => store[member]('two'), 'IMG_NOT_FOUND')
    await refused('reading a bitmap that is gone', () => spans(image, 'two'), 'IMG_NOT_FOUND')
    await works('remove', async () => store.remove('one'))
  })
  await using(kit, files, {}, async (image) => {
    await listed(image, [])
    await sameContent(image, content, 'after bitmaps were removed')
  })
}

/** Random writes, closings and changes of another bitmap; then every cut of them. */
async function cutWhileMarking(kit: Kit, values: Values): Promise<void> {
  const unit = await kit.unit(values)
  const specimen = await kit.source(values, smallDisk).specimen()
  if (!(await kit.abilitiesOf(specimen)).write) notApplicable('this format is not written in place')
  const files = specimen.files.fork()
  const random = kit.random(`bitmaps ${nameOf(values)}`)
  const before = await using(kit, files, { writable: true }, async (image) => {
    const store = changeable(image)
    await addFirst(store, 'b')
    return readAll(image)
  })
  const start = files.fork()
  const log = new Log()
  for (let round = 0; round < 3; round++) {
    await using(kit, files, { writable: true, before: log.hook }, async (image) => {
      const store = changeable(image)
      for (let i = 0; i < 4; i++) {
        const offset = random.below(Math.max(1, image.size - 600))
        const length = Math.min(image.size - offset, 1 + random.below(600))
        await works('write', async () => image.write?.(offset, pattern(offset, length, 200 + i)))
        if (random.chance(0.3)) await works('flush', async () => image.flush?.())
      }
      if (round === 1) await works('remove', async () => store.remove('other'))
      else await works('add', async () => store.add('other'))
      if (round === 2)
        await works('mark', async () => store.mark('other', [{ offset: 0, length: image.size }]))
    })
  }
  const most = kit.times(unit > largeUnit ? 30 : 120)
  const share = Math.min(1, most / log.countCuts(1))
  for (const cut of log.cuts(start, random, 1, () => random.chance(share))) {
    await using(kit, cut.files, {}, async (image) => {
      const list =
        (await works(`listing bitmaps after a cut with ${cut.how}`, () => image.bitmaps?.list())) ?? []
      const ours = list.find(({ name }) => name === 'b')
      if (ours === undefined || ours.inconsistent === true) return
      const found = await works(`reading a bitmap after a cut with ${cut.how}`, () => spans(image, 'b'))
      covers(found, differences(before, await readAll(image)), `a cut with ${cut.how}`)
    })
  }
}

/** Adds a bitmap to an image that has none; the format may say that images made so cannot have any. */
async function addFirst(store: Required<BitmapStore>, name: string): Promise<void> {
  const failed = await store.add(name).catch((error: unknown) => error)
  if (ImageError.is(failed, 'IMG_UNSUPPORTED')) notApplicable('images with these options have no bitmaps')
  await works('add', () => (failed === undefined ? Promise.resolve() : Promise.reject(failed)))
}

function changeable(image: DiskImage): Required<BitmapStore> {
  const { bitmaps: store } = image
  if (store?.add === undefined) notApplicable('this format makes no bitmaps')
  for (const member of ['dirty', 'remove', 'clear', 'enable', 'disable', 'mark'] as const)
    check(store[member] !== undefined, `bitmaps can be added, but there is no ${member}`)
  return store as Required<BitmapStore>
}

async function listed(image: DiskImage, expected: readonly string[]): Promise<void> {
  const list = (await works('listing bitmaps', () => image.bitmaps?.list())) ?? []
  const found = list.map(({ name, enabled }) => `${name} ${enabled === true ? 'enabled' : 'disabled'}`)
  check(
    found.join() === expected.join(),
    `the bitmaps are ${found.join() || 'none'}, expected ${expected.join() || 'none'}`,
  )
  check(!list.some(({ inconsistent }) => inconsistent), 'a bitmap is inconsistent without cause')
}

/** What a bitmap marks, demanded to be lawful. */
async function spans(image: DiskImage, name: string): Promise<Span[]> {
  const info = (await image.bitmaps?.list())?.find((bitmap) => bitmap.name === name)
  const granularity = info?.granularity ?? 1
  const found: Span[] = []
  let last = -1
  for await (const { offset, length } of image.bitmaps?.dirty?.(name) ?? []) {
    const end = offset + length
    check(
      length > 0 && offset > last,
      `bitmap ${name}: ${length} bytes at ${offset} come after those up to ${last}`,
    )
    check(end <= image.size, `bitmap ${name} marks bytes up to ${end} of a disk of ${image.size}`)
    const whole = offset % granularity === 0 && (end % granularity === 0 || end === image.size)
    check(whole, `bitmap ${name} marks ${length} bytes at ${offset}, not in units of ${granularity}`)
    found.push([offset, end])
    last = end
  }
  return found
}

/** Demands that every one of these bytes is marked. */
function covers(found: readonly Span[], wanted: readonly Span[], what: string): void {
  for (const [from, to] of wanted) {
    const whole = found.some(([start, end]) => start <= from && to <= end)
    check(whole, `after ${what}, bytes ${from} to ${to} are not marked`)
  }
}

/** Sectors that differ. */
function differences(before: Uint8Array, now: Uint8Array): Span[] {
  const found: Span[] = []
  for (let at = 0; at < now.length; at += sector) {
    const end = Math.min(now.length, at + sector)
    if (!equal(before.subarray(at, end), now.subarray(at, end))) found.push([at, end])
  }
  return found
}
