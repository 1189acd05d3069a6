import {
  type DiskImage,
  type FormatRegistry,
  type IoOptions,
  matchesMagic,
  probeFormat,
  readPartitions,
} from '@img/core'
import { guestStorage } from './guest-storage.js'
import { type ContentReport, type DoctorReport, find } from './report.js'
import { contentSignatures } from './signatures.js'

/** Bytes looked at from the start of a disk or a partition. */
const headBytes = 68 * 1024

/** Looks at what the guest has on the disk: its partition table, and what each partition begins with. */
export async function examineContent(
  image: DiskImage,
  report: DoctorReport,
  registry: FormatRegistry,
  options?: IoOptions,
): Promise<void> {
  const partitions = await readPartitions(image, options)
  if (partitions.length > 0) {
    report.partitionTable = partitions[0]?.table
    for (const { number, offset, size, type, name } of partitions) {
      const found = await holds(image, offset, size, options)
      report.content.push({ part: number, offset, size, type, ...(name !== '' && { name }), ...found })
    }
  }
  const whole = await holds(image, 0, image.size, options)
  if (whole.holds !== undefined)
    report.content.unshift({ part: 'disk', offset: 0, size: image.size, ...whole })
  await lookForHeader(image, report, registry, options)
}

async function holds(
  image: DiskImage,
  offset: number,
  size: number,
  options?: IoOptions,
): Promise<Pick<ContentReport, 'holds' | 'label'>> {
  const head = new Uint8Array(Math.min(headBytes, size, image.size - offset))
  await image.read(offset, head, options)
  return contentOf(head)
}

/** What the first bytes of a disk or a partition say that it holds. */
export function contentOf(head: Uint8Array): Pick<ContentReport, 'holds' | 'label'> {
  // ext2, 3 and 4: s_magic, s_feature_compat, s_feature_incompat, s_volume_name of the superblock at 1024.
  if (head.length >= 2048 && head[1080] === 0x53 && head[1081] === 0xef) {
    const journal = ((head[1116] ?? 0) & 4) !== 0
    const extents = ((head[1120] ?? 0) & 0x40) !== 0
    const label = new TextDecoder().decode(head.subarray(1144, 1160)).replace(/\0.*$/s, '')
    return { holds: extents ? 'ext4' : journal ? 'ext3' : 'ext2', ...(label !== '' && { label }) }
  }
  const found = contentSignatures.find(({ at, hex }) =>
    matchesMagic({ offset: at, hex }, head, new Uint8Array(0)),
  )
  return found === undefined ? {} : { holds: found.name }
}

/**
 * A guest that writes the header of an image to its own disk makes whoever guesses formats open that image, and the files that
 * it names.
 */
async function lookForHeader(
  image: DiskImage,
  report: DoctorReport,
  registry: FormatRegistry,
  options?: IoOptions,
): Promise<void> {
  let name: string | undefined
  try {
    name = (await probeFormat(guestStorage(image, 'the disk'), { ...options, registry }))?.name
  } catch (error) {
    name = (error as { format?: string }).format ?? 'another format'
  }
  // A disk that is encrypted as a whole is nothing unusual.
  if (name === undefined || name === 'luks') return
  const raw = report.format === 'raw'
  find(report, {
    level: 'risk',
    id: 'image-inside',
    message: `the guest's disk begins with the header of an image of format ${name}`,
    hint: raw
      ? 'always say -f raw: programs that guess the format would open that image, and the files it names'
      : 'after converting it to raw, always say -f raw: programs that guess the format would open that image',
  })
}
