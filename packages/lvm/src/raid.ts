import { type Storage, storageFrom } from '@img/core'
import { lvmError } from './errors.js'
import { addTimes, divide, multiply, power } from './galois.js'
import type { RaidLayout, StripePlace } from './raid-layout.js'
import { copiesWriter, parityWriter, type RegionMarks, raid10Writer } from './raid-write.js'
import { readVolume, type Volume } from './volume.js'

/** A set of images with parity. */
export interface ParitySet {
  /** For messages. */
  readonly name: string
  readonly layout: RaidLayout
  /** Data and parity, in the order of the set. */
  readonly images: readonly Volume[]
  /** Bytes of a chunk. */
  readonly chunk: number
  /** Bytes of data. */
  readonly size: number
  /** False where parity was not computed to the end yet: nothing can be told from it. */
  readonly inSync: boolean
}

/** RAID 4, 5 and 6. What a missing image held is computed when it is read. */
export function parityVolume(set: ParitySet, marks?: RegionMarks): Volume {
  const { layout, images, chunk, size } = set
  const dataCount = images.length - layout.parities
  const lost = images.filter(({ missing }) => missing).length
  const computed = lost === 0 ? undefined : computedStorage(set, dataCount)
  return {
    size,
    missing: lost > layout.parities || (lost > 0 && !set.inSync),
    lookup(offset, maxLength) {
      const inside = offset % chunk
      const index = (offset - inside) / chunk
      const stripe = Math.floor(index / dataCount)
      const length = Math.min(maxLength, chunk - inside)
      const { data } = layout.place(stripe, index % dataCount, images.length)
      const image = images[data] as Volume
      if (!image.missing || computed === undefined) return image.lookup(stripe * chunk + inside, length)
      return { kind: 'data', length, storage: computed, hostOffset: offset }
    },
    write: marks === undefined ? notWritten(set.name) : parityWriter(set, marks),
  }
}

/** A set that cannot be written, because it is not whole or was opened to be read. */
function notWritten(name: string): Volume['write'] {
  return () => Promise.reject(lvmError('IMG_READ_ONLY', `${name} is not open for writing`))
}

/** The data of a set with images missing, as if they were there. */
function computedStorage(set: ParitySet, dataCount: number): Storage {
  const { chunk, size, name } = set
  return storageFrom({
    label: name,
    size,
    blockSize: 4096,
    async read(offset, length) {
      const bytes = new Uint8Array(length)
      for (let at = 0; at < length; ) {
        const inside = (offset + at) % chunk
        const index = (offset + at - inside) / chunk
        const part = bytes.subarray(at, Math.min(length, at + chunk - inside))
        await compute(set, Math.floor(index / dataCount), index % dataCount, inside, part)
        at += part.length
      }
      return bytes
    },
  })
}

/** Fills `into` with a part of one data chunk. */
async function compute(
  set: ParitySet,
  stripe: number,
  index: number,
  inside: number,
  into: Uint8Array,
): Promise<void> {
  const { layout, images, chunk, name, inSync } = set
  const devices = images.length
  const { data: wanted, parity, second } = layout.place(stripe, index, devices)
  const at = stripe * chunk + inside
  const image = images[wanted] as Volume
  if (!image.missing) return readVolume(image, at, into)
  const lost = images.flatMap(({ missing }, device) => (missing ? [device] : []))
  if (lost.length > layout.parities) {
    throw lvmError('IMG_REFERENCE_MISSING', `${name}: ${lost.length} of its ${devices} images are missing`)
  }
  if (!inSync) {
    throw lvmError('IMG_CORRUPT', `${name}: an image is missing, and the parity was never completed`)
  }
  const read = async (device: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(into.length)
    await readVolume(images[device] as Volume, at, bytes)
    return bytes
  }
  const present = [...images.keys()].filter(
    (device) => device !== parity && device !== second && !lost.includes(device),
  )
  const other = lost.find((device) => device !== wanted)
  into.fill(0)
  if (other === undefined || other === second) {
    // One equation is enough: the first parity is the sum of all data.
    for (const device of [...present, parity]) addTimes(into, await read(device), 1)
    return
  }
  const factor = (device: number): number => coefficient(layout, device, devices, { parity, second })
  if (other === parity) {
    for (const device of present) addTimes(into, await read(device), factor(device))
    addTimes(into, await read(second), 1)
    scale(into, divide(1, factor(wanted)))
    return
  }
  // Two data chunks x and y: x + y = a, and f(x) x + f(y) y = b.
  const a = new Uint8Array(into.length)
  const b = new Uint8Array(into.length)
  for (const device of present) {
    const bytes = await read(device)
    addTimes(a, bytes, 1)
    addTimes(b, bytes, factor(device))
  }
  addTimes(a, await read(parity), 1)
  addTimes(b, await read(second), 1)
  const [x, y] = [factor(wanted), factor(other)]
  addTimes(b, a, y)
  addTimes(into, b, divide(1, x ^ y))
}

function scale(bytes: Uint8Array, factor: number): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = multiply(bytes[i] as number, factor)
}

/**
 * What stands before a device's data in the second parity: a power of the generator.
 * Source: Linux drivers/md/raid5.c, raid6_d0 and raid6_idx_to_slot.
 */
export function coefficient(
  layout: RaidLayout,
  device: number,
  devices: number,
  { parity, second }: Pick<StripePlace, 'parity' | 'second'>,
): number {
  if (layout.byDevice) return power(device)
  let slot = 0
  for (let at = (second + 1) % devices; at !== device; at = (at + 1) % devices) {
    if (at !== parity && at !== second) slot++
  }
  return power(slot)
}

/**
 * Copies of the same data: the first that is there is read.
 */
export function mirrorVolume(
  name: string,
  images: readonly Volume[],
  size: number,
  marks?: RegionMarks,
): Volume {
  const image = images.find(({ missing }) => !missing)
  return {
    size,
    missing: image === undefined,
    lookup(offset, maxLength) {
      if (image === undefined) throw lvmError('IMG_REFERENCE_MISSING', `${name}: none of its images is there`)
      return image.lookup(offset, maxLength)
    },
    write: marks === undefined ? notWritten(name) : copiesWriter(images, marks),
  }
}

/**
 * RAID 10: chunks go round over the devices, each written `copies` times side by side.
 * Source: Linux drivers/md/raid10.c, __raid10_find_phys with near copies.
 */
export function raid10Volume(
  name: string,
  images: readonly Volume[],
  chunk: number,
  copies: number,
  size: number,
  marks?: RegionMarks,
): Volume {
  const devices = images.length
  const copiesOf = (index: number): { readonly image: Volume; readonly row: number }[] =>
    Array.from({ length: copies }, (_, copy) => {
      const slot = index * copies + copy
      return { image: images[slot % devices] as Volume, row: Math.floor(slot / devices) }
    })
  const rounds = Array.from({ length: devices }, (_, index) => copiesOf(index))
  return {
    size,
    missing: rounds.some((all) => all.every(({ image }) => image.missing)),
    lookup(offset, maxLength) {
      const inside = offset % chunk
      const index = (offset - inside) / chunk
      const found = copiesOf(index).find(({ image }) => !image.missing)
      if (found === undefined) {
        throw lvmError('IMG_REFERENCE_MISSING', `${name}: all copies of the data at ${offset} are missing`)
      }
      return found.image.lookup(found.row * chunk + inside, Math.min(maxLength, chunk - inside))
    },
    write: marks === undefined ? notWritten(name) : raid10Writer(chunk, copiesOf, marks),
  }
}
