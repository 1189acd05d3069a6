import {
  type ClusterRun,
  checkRange,
  type IoOptions,
  isPromise,
  isZero,
  type MaybePromise,
  type Storage,
  sliceStorage,
  storageFrom,
} from '@img/core'
import { lvmError } from './errors.js'
import { firstNotBelow } from './search.js'

/** Something that maps its bytes to where they live: a physical volume, a segment, a logical volume. */
export interface Volume {
  /** Bytes. */
  readonly size: number
  /** Some of it stood on a physical volume that is not there: reading that part fails. */
  readonly missing: boolean
  /** One run from `offset`, of 1 to `maxLength` bytes; both are within the volume. */
  lookup(offset: number, maxLength: number): MaybePromise<ClusterRun>
  /**
   * Writes bytes, both ends within the volume, wherever they have to go (all copies, parity).
   * @throws {ImageError} IMG_READ_ONLY, IMG_UNSUPPORTED where this volume is not written in place.
   */
  write(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void>
  /** Set where writing is nothing but writing to where `lookup` tells. */
  readonly plain?: true | undefined
}

/** The bytes of a storage, from its start. */
export function storageVolume(storage: Storage, size: number): Volume {
  const truncated = (offset: number): Error =>
    lvmError(
      'IMG_TRUNCATED',
      `it ends at byte ${storage.size}, before data at ${offset}`,
      storage.label,
      offset,
      'the disk is cut short: copy it again from its source',
    )
  return {
    size,
    missing: false,
    plain: true,
    lookup(offset, maxLength) {
      const length = Math.min(maxLength, storage.size - offset)
      if (length <= 0) throw truncated(offset)
      return { kind: 'data', length, storage, hostOffset: offset }
    },
    async write(offset, bytes, options) {
      // A write past the end would make the disk larger.
      if (offset + bytes.length > storage.size) throw truncated(storage.size)
      if (storage.write === undefined)
        throw lvmError('IMG_READ_ONLY', 'it is not open for writing', storage.label)
      await storage.write(offset, bytes, options)
    },
  }
}

/** A physical volume that is not there. */
export function missingVolume(name: string, size: number): Volume {
  return failing(size, true, () =>
    lvmError(
      'IMG_REFERENCE_MISSING',
      `physical volume ${name} is missing`,
      undefined,
      undefined,
      'name the disk that holds it, as in pv=FILE',
    ),
  )
}

function failing(size: number, missing: boolean, error: () => Error): Volume {
  return {
    size,
    missing,
    lookup() {
      throw error()
    },
    write: () => Promise.reject(error()),
  }
}

/** A part of a volume. */
export function sliceVolume(volume: Volume, start: number, size: number): Volume {
  if (start + size > volume.size) {
    throw lvmError('IMG_CORRUPT', `metadata: a range of ${size} bytes at ${start} lies outside its volume`)
  }
  return {
    size,
    missing: volume.missing,
    plain: volume.plain,
    lookup: (offset, maxLength) => volume.lookup(start + offset, maxLength),
    write: (offset, bytes, options) => volume.write(start + offset, bytes, options),
  }
}

/** Volumes one after the other. */
export function joinVolumes(parts: readonly Volume[]): Volume {
  const [only] = parts
  if (only !== undefined && parts.length === 1) return only
  const ends = new Float64Array(parts.length)
  let size = 0
  for (const [index, part] of parts.entries()) {
    size += part.size
    ends[index] = size
  }
  return split({
    size,
    parts,
    place(offset) {
      const index = firstNotBelow(ends, offset + 1)
      const volume = parts[index] as Volume
      const end = ends[index] as number
      return { volume, at: offset - (end - volume.size), most: end - offset }
    },
  })
}

/** Zeros. Source: lvm2 lib/zero. */
export function zeroVolume(size: number): Volume {
  return {
    size,
    missing: false,
    lookup: (_, length) => ({ kind: 'zero', length }),
    async write(_, bytes) {
      if (!isZero(bytes)) throw lvmError('IMG_READ_ONLY', 'a volume of type zero keeps nothing')
    },
  }
}

/** Nothing that could be read. Source: lvm2 lib/error. */
export function errorVolume(size: number, what: string): Volume {
  return failing(size, true, () => lvmError('IMG_IO', what))
}

/** Chunks that go round over several volumes. `chunk`: bytes. */
export function stripedVolume(areas: readonly Volume[], chunk: number): Volume {
  const count = areas.length
  return split({
    size: areas.reduce((sum, area) => sum + area.size, 0),
    parts: areas,
    place(offset) {
      const inside = offset % chunk
      const index = (offset - inside) / chunk
      const volume = areas[index % count] as Volume
      return { volume, at: Math.floor(index / count) * chunk + inside, most: chunk - inside }
    },
  })
}

/** A volume whose bytes are spread over others, each in one place. */
function split(spread: {
  readonly size: number
  readonly parts: readonly Volume[]
  /** Where a byte lies, and how many follow there, itself included. */
  place(offset: number): { readonly volume: Volume; readonly at: number; readonly most: number }
}): Volume {
  const { size, parts, place } = spread
  return {
    size,
    missing: parts.some(({ missing }) => missing),
    plain: parts.every(({ plain }) => plain) ? true : undefined,
    lookup(offset, maxLength) {
      const { volume, at, most } = place(offset)
      return volume.lookup(at, Math.min(maxLength, most))
    },
    async write(offset, bytes, options) {
      for (let done = 0; done < bytes.length; ) {
        const { volume, at, most } = place(offset + done)
        const part = bytes.subarray(done, done + most)
        await volume.write(at, part, options)
        done += part.length
      }
    },
  }
}

/** Reads bytes of a volume; what is not mapped is zero. */
export async function readVolume(volume: Volume, offset: number, into: Uint8Array): Promise<void> {
  checkRange(offset, into.length, volume.size)
  for (let at = 0; at < into.length; ) {
    const found = volume.lookup(offset + at, into.length - at)
    const run = isPromise(found) ? await found : found
    const part = into.subarray(at, at + run.length)
    if (run.kind === 'data') await run.storage.read(run.hostOffset, part)
    else part.fill(0)
    at += run.length
  }
}

/** A volume as a storage, with a cache: for metadata that is kept on it. */
export function volumeStorage(volume: Volume, label: string): Storage {
  return storageFrom({
    label,
    size: volume.size,
    async read(offset, length) {
      const bytes = new Uint8Array(length)
      await readVolume(volume, offset, bytes)
      return bytes
    },
  })
}

/** A volume as a storage without a cache, which writes through it. */
export function volumeView(volume: Volume, label: string): Storage {
  const view: Storage = {
    label,
    size: volume.size,
    read: (offset, into) => readVolume(volume, offset, into),
    async write(offset, bytes, options) {
      checkRange(offset, bytes.length, volume.size)
      await volume.write(offset, bytes, options)
    },
    slice: (offset, length) => sliceStorage(view, offset, length),
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
  return view
}
