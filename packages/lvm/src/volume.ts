import {
  type ClusterRun,
  checkRange,
  isPromise,
  type MaybePromise,
  type Storage,
  storageFrom,
} from '@img/core'
import { lvmError } from './errors.js'

/** Something that maps its bytes to where they live: a physical volume, a segment, a logical volume. */
export interface Volume {
  /** Bytes. */
  readonly size: number
  /** Some of it stood on a physical volume that is not there: reading that part fails. */
  readonly missing: boolean
  /** One run from `offset`, of 1 to `maxLength` bytes; both are within the volume. */
  lookup(offset: number, maxLength: number): MaybePromise<ClusterRun>
}

/** The bytes of a storage, from its start. */
export function storageVolume(storage: Storage, size: number): Volume {
  return {
    size,
    missing: false,
    lookup(offset, maxLength) {
      const length = Math.min(maxLength, storage.size - offset)
      if (length <= 0) {
        throw lvmError(
          'IMG_TRUNCATED',
          `it ends at byte ${storage.size}, before data at ${offset}`,
          storage.label,
          offset,
          'the disk is cut short: copy it again from its source',
        )
      }
      return { kind: 'data', length, storage, hostOffset: offset }
    },
  }
}

/** A physical volume that is not there. */
export function missingVolume(name: string, size: number): Volume {
  return {
    size,
    missing: true,
    lookup() {
      throw lvmError(
        'IMG_REFERENCE_MISSING',
        `physical volume ${name} is missing`,
        undefined,
        undefined,
        'name the disk that holds it, as in pv=FILE',
      )
    },
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
    lookup: (offset, maxLength) => volume.lookup(start + offset, maxLength),
  }
}

/** Volumes one after the other. */
export function joinVolumes(parts: readonly Volume[]): Volume {
  const [only] = parts
  if (only !== undefined && parts.length === 1) return only
  const ends: number[] = []
  let size = 0
  for (const part of parts) {
    size += part.size
    ends.push(size)
  }
  return {
    size,
    missing: parts.some(({ missing }) => missing),
    lookup(offset, maxLength) {
      const index = ends.findIndex((end) => offset < end)
      const part = parts[index] as Volume
      const end = ends[index] as number
      return part.lookup(offset - (end - part.size), Math.min(maxLength, end - offset))
    },
  }
}

/** Zeros. Source: lvm2 lib/zero. */
export function zeroVolume(size: number): Volume {
  return { size, missing: false, lookup: (_, length) => ({ kind: 'zero', length }) }
}

/** Nothing that could be read. Source: lvm2 lib/error. */
export function errorVolume(size: number, what: string): Volume {
  return {
    size,
    missing: true,
    lookup() {
      throw lvmError('IMG_IO', what)
    },
  }
}

/** Chunks that go round over several volumes. `chunk`: bytes. */
export function stripedVolume(areas: readonly Volume[], chunk: number): Volume {
  const count = areas.length
  return {
    size: areas.reduce((sum, area) => sum + area.size, 0),
    missing: areas.some(({ missing }) => missing),
    lookup(offset, maxLength) {
      const inside = offset % chunk
      const index = (offset - inside) / chunk
      const area = areas[index % count] as Volume
      return area.lookup(Math.floor(index / count) * chunk + inside, Math.min(maxLength, chunk - inside))
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
