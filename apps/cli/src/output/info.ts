import type { ImageInfo, SnapshotInfo, VolumeGroupInfo } from '@img/core'
import { humanSize } from '../sizes.js'
import type { Json } from './json.js'
import { dumpSpecific, entriesAsGiven } from './specific.js'
import { groupJson, groupText } from './volumes.js'

/** Formats whose facts qemu-img prints, in the order of its hash tables. Of others they stand as the format gives them. */
const ofQemu: ReadonlySet<string> = new Set(['raw', 'qcow2', 'qcow', 'vmdk', 'vdi', 'luks'])

/** What `info` tells of one image of a chain. */
export interface InfoEntry {
  readonly info: ImageInfo
  /** The name by which it was opened. */
  readonly filename: string
  /** Path of the backing file, from the same directory as `filename`. */
  readonly fullBackingFilename?: string | undefined
  /** The group of volumes on the disk. */
  readonly group?: InfoGroup | undefined
}

/** A group of volumes on a disk. */
export interface InfoGroup {
  readonly info: VolumeGroupInfo
  /** The same under the format's own keys. */
  readonly specific: ImageInfo['specific']
  /** Also where each volume lies. */
  readonly segments: boolean
}

/** An image's facts under qemu-img's keys (QAPI ImageInfo). */
export function infoJson({ info, filename, fullBackingFilename, group }: InfoEntry, details: boolean): Json {
  const { snapshots = [], backing, extra } = info
  const volumes = group && groupJson(group.specific, group.segments)
  // The image is one of the volumes, or the disk that they are on.
  const isVolume = group !== undefined && group.specific === info.specific
  const specific = isVolume ? volumes : info.specific
  return {
    'virtual-size': info.virtualSize,
    filename,
    format: info.format,
    'actual-size': info.hostSize,
    'cluster-size': info.clusterSize,
    encrypted: info.encrypted === true ? true : undefined,
    compressed: info.compressed === true ? true : undefined,
    'dirty-flag': info.dirty ?? false,
    'backing-filename': backing?.name,
    'full-backing-filename': fullBackingFilename,
    'backing-filename-format': backing?.format,
    snapshots: snapshots.length > 0 ? snapshots.map(snapshotJson) : undefined,
    'format-specific':
      specific === undefined
        ? undefined
        : { type: info.format, data: specific as Readonly<Record<string, Json>> },
    extra: details ? (extra as Json | undefined) : undefined,
    lvm: isVolume ? undefined : volumes,
  }
}

/** A snapshot under the keys of QAPI SnapshotInfo. */
export function snapshotJson(snapshot: SnapshotInfo): Json {
  return {
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': snapshot.vmStateSize,
    'date-sec': snapshot.date.seconds,
    'date-nsec': snapshot.date.nanoseconds,
    'vm-clock-sec': snapshot.vmClock.seconds,
    'vm-clock-nsec': snapshot.vmClock.nanoseconds,
    icount: snapshot.icount,
  }
}

/** An image's facts for people, as qemu-img writes them. `bar`: draws how much of the disk the host has. */
export function infoText(
  { info, filename, fullBackingFilename, group }: InfoEntry,
  details: boolean,
  bar?: (hostSize: number, virtualSize: number) => string,
): string {
  const { backing, snapshots = [], specific, extra } = info
  const lines = [
    `image: ${filename}`,
    `file format: ${info.format}`,
    `virtual size: ${humanSize(info.virtualSize)} (${info.virtualSize} bytes)`,
    `disk size: ${info.hostSize === undefined ? 'unavailable' : humanSize(info.hostSize)}`,
  ]
  if (bar !== undefined && info.hostSize !== undefined) {
    lines.push(`           ${bar(info.hostSize, info.virtualSize)}`)
  }
  if (info.encrypted === true) lines.push('encrypted: yes')
  if (info.clusterSize !== undefined) lines.push(`cluster_size: ${info.clusterSize}`)
  if (info.dirty === true) lines.push('cleanly shut down: no')
  if (backing !== undefined) {
    lines.push(`backing file: ${backing.name}${actualPath(backing.name, fullBackingFilename)}`)
    if (backing.format !== undefined) lines.push(`backing file format: ${backing.format}`)
  }
  if (snapshots.length > 0) lines.push('Snapshot list:', snapshotHeader, ...snapshots.map(snapshotRow))
  let text = `${lines.join('\n')}\n`
  if (group !== undefined && group.specific === specific) text += groupText(group.info, group.segments)
  else if (specific !== undefined && Object.keys(specific).length > 0) {
    const entries = ofQemu.has(info.format) ? undefined : entriesAsGiven
    text += `Format specific information:\n${dumpSpecific(specific as Json, 1, entries)}`
  }
  if (group !== undefined && group.specific !== specific)
    text += `LVM:\n${groupText(group.info, group.segments)}`
  if (details && extra !== undefined) text += `Further information:\n${dumpSpecific(extra as Json)}`
  return text
}

function actualPath(name: string, full: string | undefined): string {
  if (full === undefined) return ' (cannot determine actual path)'
  return full === name ? '' : ` (actual path: ${full})`
}

/** Column titles of a snapshot table. */
export const snapshotHeader: string = row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT')

/** One snapshot of a snapshot table. Dates are in local time. */
export function snapshotRow({ id, name, vmStateSize, date, vmClock, icount }: SnapshotInfo): string {
  const { seconds, nanoseconds } = vmClock
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map(twoDigits)
    .join(':')
  const milliseconds = String(Math.floor(nanoseconds / 1e6)).padStart(3, '0')
  return row(
    id,
    name,
    humanSize(vmStateSize),
    localDate(date.seconds),
    `${clock}.${milliseconds}`,
    `${icount ?? ''}`,
  )
}

function row(id: string, tag: string, size: string, date: string, clock: string, icount: string): string {
  return (
    `${padBytes(id, 9)} ` +
    `${padBytes(tag, 16)} ` +
    size.padStart(8) +
    date.padStart(20) +
    clock.padStart(13) +
    icount.padStart(11)
  )
}

/** Pads as C's printf does, which counts bytes. */
function padBytes(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - new TextEncoder().encode(text).length))
}

function localDate(seconds: number): string {
  const date = new Date(seconds * 1000)
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(twoDigits).join('-')
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(':')}`
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0')
}
