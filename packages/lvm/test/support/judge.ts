import { type Driver, ImageError, type Storage, viewOf } from '@img/core'
import { multiply } from '../../src/galois.js'
import { LogicalVolumes } from '../../src/logical-volumes.js'
import { physicalVolumes } from '../../src/open-volume.js'
import { coefficient } from '../../src/raid.js'
import { raidLayouts } from '../../src/raid-layout.js'
import { findPhysicalVolumes, readGroup } from '../../src/scan.js'
import { readVolume } from '../../src/volume.js'
import { Reader, type Segment } from '../../src/volume-group.js'

/** What was found that a disk must never hold, whenever the power goes. */
function bad(what: string): never {
  throw new ImageError('IMG_CORRUPT', what, { format: 'lvm' })
}

type Bytes = (name: string) => Promise<Uint8Array>

/**
 * Makes sure that the kernel would find a volume as it needs it: what is not marked to be synchronised is alike, with the right
 * parity; the metadata of a pool counts exactly what it uses.
 * @throws {ImageError} IMG_CORRUPT.
 */
export async function judge(storage: Storage, driver: Driver): Promise<void> {
  const found = await findPhysicalVolumes(storage)
  const { group } = await readGroup(found, undefined, () => undefined)
  const segment = group?.logicalVolumes.get('lv')?.segments[0]
  if (group === undefined || segment === undefined) return
  if (segment.type === 'thin') return judgePool(driver)
  const volumes = new LogicalVolumes(group, physicalVolumes(group, found), () => undefined)
  const bytes: Bytes = async (name) => {
    const volume = await volumes.openHidden(name)
    const all = new Uint8Array(volume.size)
    await readVolume(volume, 0, all)
    return all
  }
  if (segment.type === 'mirror') await judgeMirror(segment, bytes)
  else if (segment.type.startsWith('raid')) await judgeRaid(segment, bytes)
}

/** Whether the volume is a thin one. */
export async function isThin(storage: Storage): Promise<boolean> {
  const { group } = await readGroup(await findPhysicalVolumes(storage), undefined, () => undefined)
  return group?.logicalVolumes.get('lv')?.segments[0]?.type === 'thin'
}

async function judgePool(driver: Driver): Promise<void> {
  const found: string[] = []
  await driver.check?.({ onFinding: ({ message }) => found.push(message) })
  if (found.length > 0) bad(found.join('; '))
}

async function judgeMirror({ config }: Segment, bytes: Bytes): Promise<void> {
  const read = new Reader(config, 'lv')
  const region = read.number('region_size') * 512
  const log = await bytes(read.text('mirror_log'))
  const [one, other] = [await bytes('leg0'), await bytes('leg1')]
  for (let at = 0; at < one.length; at++) {
    const bit = Math.floor(at / region)
    const alike = ((log[1024 + Math.floor(bit / 8)] as number) >> (bit % 8)) & 1
    if (alike === 1 && one[at] !== other[at]) bad(`the legs differ at ${at}, which the log does not tell`)
  }
}

async function judgeRaid(segment: Segment, bytes: Bytes): Promise<void> {
  const names = new Reader(segment.config, 'lv').texts('raids')
  const all = await Promise.all(names.map(bytes))
  const metas = all.filter((_, at) => at % 2 === 0)
  const images = all.filter((_, at) => at % 2 === 1)
  const chunk = new Reader(segment.config, 'lv').optionalNumber('stripe_size') ?? 1
  const marked = marks(metas)
  for (let at = 0; at < (images[0] as Uint8Array).length; at += 512) {
    const row = Math.floor(at / (chunk * 512))
    const sectors = images.map((image) => image.subarray(at, at + 512))
    if (segment.type === 'raid10') {
      for (const pair of [0, 1]) {
        const inArray = (row * 2 + pair) * chunk * 512 + (at % (chunk * 512))
        const [one, other] = sectors.slice(pair * 2)
        if (!marked(inArray)) same(one as Uint8Array, other as Uint8Array, at)
      }
    } else if (!marked(at)) {
      if (segment.type === 'raid1') same(sectors[0] as Uint8Array, sectors[1] as Uint8Array, at)
      else parity(segment.type, sectors, row, at)
    }
  }
}

/** Whether the kernel synchronises a place, whichever of the metadata images it goes by. */
function marks(metas: readonly Uint8Array[]): (at: number) => boolean {
  return (at) =>
    metas.every((meta) => {
      // All bits set: the set is in sync, and its bitmap is not looked at.
      if (meta.subarray(40, 48).every((byte) => byte === 0xff)) return false
      const bit = Math.floor(at / viewOf(meta).getUint32(4096 + 52, true))
      return (((meta[4096 + 256 + Math.floor(bit / 8)] as number) >> (bit % 8)) & 1) === 1
    })
}

function same(one: Uint8Array, other: Uint8Array, at: number): void {
  if (one.some((byte, index) => byte !== other[index])) bad(`the images differ at ${at}, which is not marked`)
}

function parity(type: string, sectors: readonly Uint8Array[], row: number, at: number): void {
  const layout = raidLayouts[type] as NonNullable<(typeof raidLayouts)[string]>
  const devices = sectors.length
  const places = layout.place(row, 0, devices)
  for (let byte = 0; byte < 512; byte++) {
    let first = 0
    let second = 0
    sectors.forEach((sector, device) => {
      const value = sector[byte] as number
      if (device === places.second) second ^= value
      else first ^= value
      if (layout.parities === 2 && device !== places.second && device !== places.parity) {
        second ^= multiply(coefficient(layout, device, devices, places), value)
      }
    })
    if (first !== 0 || (layout.parities === 2 && second !== 0))
      bad(`the parity at ${at} is wrong, which is not marked`)
  }
}
