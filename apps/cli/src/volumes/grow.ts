import { type DiskImage, type GrowableDisk, growPartition, readPartitions } from '@img/core'
import type { Context } from '../context.js'
import type { DryRun } from '../dry-run/dry-run.js'
import { Failure } from '../errors.js'
import { type OpenArguments, openNamed } from '../open.js'
import { humanSize } from '../sizes.js'
import { groupOn } from './find.js'
import { openGroup, splitVolume } from './open-group.js'
import { volumeSize } from './size-argument.js'

/** What is to grow with a disk. */
export interface GrowRequest {
  /** Number of a partition, or `last`. */
  readonly partition: string | undefined
  /** The physical volumes on the disk, and the partitions that they are in. */
  readonly lvm: boolean
  /** A logical volume: `NAME`, or `NAME=SIZE`. */
  readonly lv: string | undefined
  /** How the group is opened: its other disks may be named. */
  readonly group: OpenArguments
  /** What would be done is told. */
  readonly dryRun: DryRun | undefined
}

/**
 * Makes sure that all disks of the group on an open image are there, before the image changes.
 * @throws {Failure}
 */
export async function assertWhole(
  image: DiskImage,
  filename: string,
  options: OpenArguments,
  context: Context,
): Promise<void> {
  // The image itself holds the lock.
  const found = await groupOn(image, filename, { ...options, forceShare: true }, context)
  if (found === undefined) return
  try {
    const { name, physicalVolumes } = await found.volumes.info()
    const missing = physicalVolumes.filter((pv) => pv.missing).map((pv) => `${pv.name} (${pv.uuid})`)
    if (missing.length === 0) return
    throw new Failure(`volume group ${name} is not complete: ${missing.join(', ')} is missing`, {
      hint: 'name all disks of the group, as in --open pv=FILE',
    })
  } finally {
    await found.image.close()
  }
}

/** Grows what is on a disk that was made larger. @returns what was or would be done, a line each. @throws {Failure} */
export async function growContents(
  filename: string,
  source: OpenArguments,
  asked: GrowRequest,
  context: Context,
): Promise<string[]> {
  const { dryRun } = asked
  const told = dryRun === undefined ? grew : wouldGrow
  const options = { ...source, dryRun }
  const request = { ...asked, group: { ...asked.group, dryRun } }
  const lines: string[] = []
  const numbers = await partitionsToGrow(filename, options, request, context)
  if (numbers.length > 0) {
    const image = await openNamed(filename, { ...options, writable: true }, context)
    try {
      for (const number of numbers) {
        const { before, size } = await growPartition(asDisk(image), number, { signal: context.signal() })
        lines.push(told(`Partition ${number}`, before, size))
      }
    } finally {
      await image.close()
    }
  }
  if (request.lvm) lines.push(...(await growGroup(filename, request, told, context)))
  return lines
}

function asDisk(image: DiskImage): GrowableDisk {
  const { write, flush } = image
  return {
    label: image.storage.label,
    size: image.size,
    read: (offset, into, options) => image.read(offset, into, options),
    ...(write && { write: (offset, bytes, options) => write.call(image, offset, bytes, options) }),
    ...(flush && { flush: (options) => flush.call(image, options) }),
  }
}

type Teller = (what: string, before: number, size: number) => string

const grew: Teller = (what, before, size) => {
  if (size === before) return `${what} has no room to grow: ${humanSize(size)}.`
  return `${what} grew from ${humanSize(before)} to ${humanSize(size)} (${size} bytes).`
}

const wouldGrow: Teller = (what, before, size) => {
  if (size === before) return `${what} would have no room to grow: ${humanSize(size)}.`
  return `${what} would grow from ${humanSize(before)} to ${humanSize(size)} (${size} bytes).`
}

async function partitionsToGrow(
  filename: string,
  options: OpenArguments,
  { partition, lvm, group }: GrowRequest,
  context: Context,
): Promise<number[]> {
  const image = await openNamed(filename, options, context)
  try {
    const partitions = await readPartitions(image)
    if (partition !== undefined) {
      const last = partitions.reduce(
        (best, each) => (each.offset > (best?.offset ?? -1) ? each : best),
        partitions[0],
      )
      const number = partition === 'last' ? last?.number : Number(partition)
      if (number === undefined) throw new Failure(`${filename} has no partitions`)
      if (!Number.isInteger(number))
        throw new Failure(`--partition expects a number, or 'last', not '${partition}'`)
      return [number]
    }
    if (!lvm || partitions.length === 0) return []
    const found = await groupOn(image, filename, group, context)
    if (found === undefined) return []
    try {
      const { physicalVolumes } = await found.volumes.info()
      return partitions
        .filter(({ offset }) =>
          physicalVolumes.some((pv) => pv.disk === image.storage.label && pv.offset === offset),
        )
        .map(({ number }) => number)
    } finally {
      await found.image.close()
    }
  } finally {
    await image.close()
  }
}

async function growGroup(
  filename: string,
  { group: options, lv }: GrowRequest,
  told: Teller,
  context: Context,
): Promise<string[]> {
  const [, volume, size = '+100%FREE'] = /^([^=]*)(?:=(.*))?$/s.exec(lv ?? '') ?? []
  const wanted = splitVolume(volume ?? '')
  const how = { ...options, format: undefined, group: wanted.group, writable: true }
  const { image, volumes } = await openGroup(filename, how, context)
  try {
    const signal = context.signal()
    const grown = (await volumes.grow?.({ signal })) ?? []
    const lines = grown.map(({ name, before, size: now }) => told(`Physical volume ${name}`, before, now))
    if (grown.length === 0) lines.push('The physical volumes have no room to grow.')
    if (wanted.name === '') return lines
    const group = await volumes.info()
    const found = group.volumes.find(({ name }) => name === wanted.name)
    if (found === undefined) throw new Failure(`there is no logical volume ${wanted.name} in ${group.name}`)
    if (size === '+100%FREE' && group.free < group.extentSize) {
      lines.push(told(`Volume ${group.name}/${found.name}`, found.size, found.size))
      return lines
    }
    const bytes = volumeSize(size, { group, now: found.size })
    if (bytes < found.size)
      throw new Failure(`Volume ${found.name} has ${found.size} bytes: it is not made smaller here`)
    const made = await volumes.resize?.(found.name, bytes, { signal })
    lines.push(told(`Volume ${group.name}/${found.name}`, found.size, made?.size ?? found.size))
    return lines
  } finally {
    await image.close()
  }
}

/**
 * What a new size means to what is on a disk with partitions or volumes; empty where there is neither.
 * @param after bytes of the disk from now on
 */
export async function explainResize(
  image: DiskImage,
  filename: string,
  options: OpenArguments,
  after: number,
  context: Context,
): Promise<string[]> {
  if (image.unreadable !== undefined || image.driver.backing !== undefined) return []
  const partitions = await readPartitions(image)
  // The image itself holds the lock.
  const found = await groupOn(image, filename, { ...options, forceShare: true }, context)
  const group = await found?.volumes.info()
  await found?.image.close()
  const label = image.storage.label
  const here = group?.physicalVolumes.filter(({ disk }) => disk === label) ?? []
  const cut: string[] = []
  for (const { number, offset, size } of partitions) {
    if (offset + size > after) cut.push(`partition ${number} ends at byte ${offset + size}`)
  }
  for (const { name, offset = 0, size } of here) {
    if (offset + size > after)
      cut.push(`physical volume ${name} of group ${group?.name} has ${size} bytes from ${offset}`)
  }
  if (after < image.size) {
    if (partitions.some(({ table }) => table === 'gpt'))
      cut.push('the backup of the GPT is at the end of the disk')
    return cut.map((each) => `${each}, beyond the new end of the disk`)
  }
  if (after === image.size || (partitions.length === 0 && here.length === 0)) return []
  const what =
    partitions.length > 0
      ? `the partitions on the disk (${partitions.length}) do not grow with it`
      : `the physical volume on the disk, of group ${group?.name}, does not grow with it`
  const ways = [
    ...(here.length > 0 ? ['--lvm (with --lv NAME for a volume too)'] : []),
    ...(partitions.length > 0 ? ['--partition NUMBER'] : []),
  ]
  return [`${what}; ${ways.join(' or ')} would do that`]
}
