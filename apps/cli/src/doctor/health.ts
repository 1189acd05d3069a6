import { alignUp, type DiskImage, ImageError, type IoOptions } from '@img/core'
import { humanSize } from '../sizes.js'
import { tell } from './layers.js'
import { type DoctorReport, find } from './report.js'

/** Findings of a check that are told one by one. */
const maxFindings = 10
/** Beyond this many bytes for the guest, an image is worth a word. */
const hugeBytes = 64 * 1024 ** 4
/** Compressed data that grows more than this is no disk as people have them. */
const bombRatio = 100
const bombBytes = 1024 ** 3

/** What an image says of its own state. `inUse`: another program writes it now. */
export async function examineState(
  image: DiskImage,
  report: DoctorReport,
  depth: number,
  inUse: boolean,
): Promise<void> {
  const label = image.storage.label
  const { specific = {}, extra = {}, dirty, encrypted, virtualSize } = await image.info()
  if (depth === 0) {
    report.virtualSize = virtualSize
    if (encrypted === true) report.encrypted = true
    report.details.push(...scalars(specific))
    if (virtualSize > hugeBytes) {
      find(report, {
        level: 'note',
        id: 'huge-disk',
        message: `the disk is said to have ${humanSize(virtualSize)}: few hosts can hold it as a raw file`,
      })
    }
  }
  if (dirty === true && !inUse) {
    find(report, {
      level: 'problem',
      id: 'not-closed',
      message: `${label} was not closed cleanly`,
      hint: `img check ${label}; with -r all it is repaired`,
    })
  }
  if (specific.corrupt === true) {
    find(report, {
      level: 'problem',
      id: 'marked-corrupt',
      message: `${label} is marked as corrupt by the program that last wrote it`,
      hint: `img check -r all ${label}, on a copy`,
    })
  }
  for (const [name, value] of Object.entries(extra)) {
    if (!name.startsWith('unknown-')) continue
    find(report, {
      level: 'note',
      id: name,
      message: `${label} has ${name.replaceAll('-', ' ')}: ${Array.isArray(value) ? value.join(', ') : String(value)}`,
    })
  }
}

/** Words, numbers and switches that are on of the format-specific facts. */
function scalars(specific: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(specific)
    .filter(([, value]) => typeof value !== 'object' && value !== false)
    .map(([name, value]) => `${name.replaceAll('-', ' ')}: ${String(value)}`)
}

/** Looks for damage in the metadata, where the format can. Writes nothing. */
export async function examineMetadata(
  image: DiskImage,
  report: DoctorReport,
  options?: IoOptions,
): Promise<void> {
  if (image.check === undefined) return
  const label = image.storage.label
  try {
    let told = 0
    const { corruptions, leaks, checkErrors } = await image.check({
      ...options,
      onFinding({ kind, message, offset }) {
        if (kind === 'leak' || told++ >= maxFindings) return
        find(report, {
          level: 'problem',
          id: kind === 'error' ? 'cannot-be-checked' : 'damage',
          message,
          offset,
        })
      },
    })
    report.checked = true
    if (corruptions + checkErrors > 0) {
      find(report, {
        level: 'problem',
        id: 'damaged',
        message: `${label} has ${corruptions} errors${checkErrors > 0 ? `, and ${checkErrors} places could not be checked` : ''}`,
        hint: `img check -r all ${label}, on a copy; what can still be read is saved by img convert --salvage`,
      })
    }
    if (leaks > 0) {
      find(report, {
        level: 'note',
        id: 'leaks',
        message: `${label} has ${leaks} leaked clusters: room is lost, no data`,
        hint: `img check -r leaks ${label}`,
      })
    }
  } catch (error) {
    if (!ImageError.is(error)) throw error
    tell(report, error)
  }
}

/** Weighs what the image would unpack to against what it takes. */
export async function examineWeight(
  image: DiskImage,
  report: DoctorReport,
  options?: IoOptions,
): Promise<void> {
  let data = 0
  let compressed = 0
  let cut: number | undefined
  for await (const extent of image.extents(options)) {
    if (extent.kind === 'data' && extent.hostOffset + extent.length > alignUp(extent.storage.size, 512)) {
      cut ??= extent.offset
    }
    if (extent.kind === 'compressed') compressed += extent.length
    if (extent.kind === 'compressed' || (extent.kind === 'data' && extent.hole !== true))
      data += extent.length
  }
  report.dataSize = data
  if (cut !== undefined) {
    find(report, {
      level: 'problem',
      id: 'truncated',
      message: `what the disk holds from byte ${cut} on would lie past the end of the file: it is cut short`,
      hint: 'copy it again from its source; what is there is saved by img convert --salvage',
    })
  }
  const { fileSize } = report
  if (compressed > bombBytes && compressed > fileSize * bombRatio) {
    find(report, {
      level: 'risk',
      id: 'bomb',
      message: `${humanSize(compressed)} of compressed data are in a file of ${humanSize(fileSize)}: it may be made to fill the disk of whoever unpacks it`,
      hint: 'convert it where the room is limited, for example under a quota',
    })
  }
}
