import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import { mirrorVolume, parityVolume, raid10Volume } from './raid.js'
import { raidLayouts } from './raid-layout.js'
import { RaidMarks } from './raid-marks.js'
import { type RaidState, readRaidState } from './raid-metadata.js'
import { isReshaped, reshapeExtents } from './reshape.js'
import { sliceVolume, stripedVolume, type Volume } from './volume.js'
import { Reader, type Segment } from './volume-group.js'
import type { Disks } from './write-target.js'

/** What a RAID segment is made with. */
export interface RaidParts {
  /** Of the volume, for messages. */
  readonly name: string
  readonly segment: Segment
  /** Bytes of an extent. */
  readonly extentSize: number
  /** Opens an image, or the volume with its metadata. */
  build(name: string): Promise<Volume>
  /** Set where it is to be written. */
  readonly disks: Disks | undefined
}

/** A segment of type raid0 to raid10. @throws {ImageError} IMG_CORRUPT, IMG_UNSUPPORTED. */
export async function raidSegment({ name, segment, extentSize, build, disks }: RaidParts): Promise<Volume> {
  const { type } = segment
  const read = new Reader(segment.config, `a segment of ${name}`)
  const room = read.optionalNumber('reshape_count') ?? 0
  const size = (segment.count - reshapeExtents(segment)) * extentSize
  const plain = read.texts('raid0_lvs')
  const pairs = read.texts('raids')
  const whole: Volume[] = []
  const metadata: (Volume | undefined)[] = []
  for (const image of plain) whole.push(await build(image))
  for (let at = 0; at + 1 < pairs.length; at += 2) {
    metadata.push(await build(pairs[at] as string))
    whole.push(await build(pairs[at + 1] as string))
  }
  if (whole.length < 1) throw lvmError('IMG_CORRUPT', `metadata: ${name} has no images`)
  if (type === 'raid0' || type === 'raid0_meta') {
    return sliceVolume(stripedVolume(whole, chunkOf(read, name)), 0, size)
  }
  const state = await readRaidState(metadata, (whole[0]?.size ?? 0) - room * extentSize)
  if (isReshaped(segment)) assertReshaped(name, segment, state, whole.length)
  const images = placed(name, whole, state)
  const marks = disks && new RaidMarks(disks, metadata)
  if (marks !== undefined) assertWhole(name, segment, state, images)
  const usable = images.map((image, at) => (state.usable[at] === false ? { ...image, missing: true } : image))
  if (type === 'raid1') return mirrorVolume(name, usable, size, marks)
  const chunk = chunkOf(read, name)
  if (type === 'raid10' || type === 'raid10_near') {
    const copies = read.optionalNumber('data_copies') ?? 2
    if (copies < 1 || copies > images.length) {
      throw lvmError(
        'IMG_CORRUPT',
        `metadata: ${name} cannot have ${copies} copies on ${images.length} images`,
      )
    }
    return raid10Volume(name, usable, chunk, copies, size, marks)
  }
  const layout = raidLayouts[type]
  if (layout === undefined) {
    throw lvmError('IMG_UNSUPPORTED', `logical volume ${name}: segment type ${type} is not known`)
  }
  if (images.length <= layout.parities || size % chunk !== 0) {
    throw lvmError('IMG_CORRUPT', `metadata: ${name} cannot be ${type} of ${images.length} images`)
  }
  return parityVolume({ name, layout, images: usable, chunk, size, inSync: state.inSync }, marks)
}

/** The images from where their data starts: after a change of the layout, not at the front. */
function placed(name: string, images: readonly Volume[], { starts }: RaidState): Volume[] {
  return images.map((image, at) => {
    const start = starts[at] ?? 0
    if (start > image.size) {
      throw lvmError('IMG_CORRUPT', `${name}: the data of image ${at} starts at ${start}, behind its end`)
    }
    return start === 0 ? image : sliceVolume(image, start, image.size - start)
  })
}

/** The superblocks tell the same layout as the metadata: the kernel has come to the end. */
function assertReshaped(name: string, segment: Segment, { shape }: RaidState, images: number): void {
  const layout = raidLayouts[segment.type]
  const chunk = segment.config.values.get('stripe_size')
  const same =
    layout !== undefined &&
    shape !== undefined &&
    shape.images === images &&
    shape.chunk === chunk &&
    shape.level === layout.onDisk.level &&
    shape.layout === layout.onDisk.layout
  if (same) return
  throw lvmError(
    'IMG_UNSUPPORTED',
    `logical volume ${name} is being reshaped: it cannot be read`,
    undefined,
    undefined,
    'activate it with lvm2, and let it finish',
  )
}

/** A set that is not whole, or is about to change, is not written. */
function assertWhole(name: string, segment: Segment, state: RaidState, images: readonly Volume[]): void {
  const lost = images.some(({ missing }) => missing) ? 'one of its images is missing' : undefined
  const moved = isReshaped(segment) ? 'it has room left from a change of its layout' : undefined
  const reason = state.refusal ?? lost ?? moved
  if (reason === undefined) return
  throw lvmError(
    'IMG_UNSUPPORTED',
    `${name} is not written: ${reason}`,
    undefined,
    undefined,
    reason === moved
      ? 'lvconvert to the same layout frees that room'
      : 'activate it with lvm2, so that it is made whole',
  )
}

function chunkOf(read: Reader, name: string): number {
  const chunk = read.number('stripe_size') * SECTOR
  if (chunk === 0) throw lvmError('IMG_CORRUPT', `metadata: ${name} has stripes of no size`)
  return chunk
}
