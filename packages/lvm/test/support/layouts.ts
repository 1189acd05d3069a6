import { viewOf, writeU64LE } from '@img/core'
import { raidLayouts } from '../../src/raid-layout.js'
import { extentSize, extentStart } from './build.js'
import { newThinPool } from './thin-pool.js'

/** How a disk with one volume is laid out. The volume that users see is called `lv`. */
export interface Layout {
  /** Logical volumes as text. */
  readonly volumes: string
  /** Extents of the disk. */
  readonly extents: number
  /** Puts on the disk what the volumes need to be there from the start. */
  prepare?(disk: Uint8Array): void
}

const linear = (name: string, start: number, count: number, status = '"READ", "WRITE"'): string =>
  `${name} { id = "${name}" status = [${status}] segment_count = 1 segment1 { start_extent = 0 extent_count = ${count} type = "striped" stripe_count = 1 stripes = ["pv0", ${start}] } }\n`

const single = (
  name: string,
  count: number,
  segment: string,
  status = '"READ", "WRITE", "VISIBLE"',
): string =>
  `${name} { id = "${name}" status = [${status}] segment_count = 1 segment1 { start_extent = 0 extent_count = ${count} ${segment} } }\n`

const top = (count: number, segment: string): string => single('lv', count, segment)

/** Volumes of the same size one after the other. */
const images = (prefix: string, count: number, size: number, from: number): string =>
  Array.from({ length: count }, (_, at) => linear(`${prefix}${at}`, from + at * size, size)).join('')

function putExtent(disk: Uint8Array, extent: number, bytes: Uint8Array): void {
  disk.set(bytes, extentStart + extent * extentSize)
}

/** Extents of the metadata of one RAID image: a superblock, and the bitmap behind it. */
const metaExtents = 2

/** RAID with a metadata image beside each data image, all in sync. `data`: images that hold other data than the rest. */
const raid =
  (type: string, devices: number, data: number) =>
  (extents: number): Layout => {
    const each = Math.ceil(extents / data)
    const pairs = Array.from({ length: devices }, (_, at) => `"meta${at}", "image${at}"`).join(', ')
    const shape = `device_count = ${devices} ${type === 'raid1' ? '' : 'stripe_size = 2'} region_size = 2`
    const { level, layout } = raidLayouts[type]?.onDisk ?? {
      level: type === 'raid1' ? 1 : 10,
      layout: type === 'raid1' ? 0 : 0x102,
    }
    return {
      extents: devices * (each + metaExtents),
      volumes:
        top(extents, `type = "${type}" ${shape} raids = [${pairs}]`) +
        images('image', devices, each, 0) +
        images('meta', devices, metaExtents, devices * each),
      prepare(disk) {
        for (let at = 0; at < devices; at++) {
          const bytes = new Uint8Array(metaExtents * extentSize)
          const view = viewOf(bytes)
          view.setUint32(0, 0x64526d44, true)
          view.setUint32(8, devices, true)
          view.setUint32(12, at, true)
          writeU64LE(view, 16, 5)
          bytes.fill(0xff, 32, 48)
          view.setUint32(48, level, true)
          view.setUint32(52, layout, true)
          view.setUint32(56, type === 'raid1' ? 0 : 2, true)
          const bitmap = viewOf(bytes.subarray(4096))
          bitmap.setUint32(0, 0x6d746962, true)
          bitmap.setUint32(4, 4, true)
          writeU64LE(bitmap, 24, 5)
          writeU64LE(bitmap, 32, 5)
          // RAID 10 counts in what its users see, the others in bytes of an image.
          writeU64LE(bitmap, 40, ((type === 'raid10' ? extents : each) * extentSize) / 512)
          bitmap.setUint32(52, 1024, true)
          bitmap.setUint32(56, 5, true)
          putExtent(disk, devices * each + at * metaExtents, bytes)
        }
      },
    }
  }

/** Two legs and a log of regions of two sectors, all of which are alike. */
function mirror(extents: number): Layout {
  return {
    extents: extents * 2 + 1,
    volumes:
      top(
        extents,
        'type = "mirror" mirror_count = 2 mirror_log = "log" region_size = 2 mirrors = ["leg0", 0, "leg1", 0]',
      ) +
      images('leg', 2, extents, 0) +
      linear('log', extents * 2, 1),
    prepare(disk) {
      const log = new Uint8Array(extentSize).fill(0xff, 1024)
      const view = viewOf(log)
      view.setUint32(0, 0x4d695272, true)
      view.setUint32(4, 2, true)
      writeU64LE(view, 8, (extents * extentSize) / 1024)
      putExtent(disk, extents * 2, log)
    },
  }
}

/** A store with chunks of 1 KiB, behind the origin. */
const snapshot =
  (isOrigin: boolean) =>
  (extents: number): Layout => {
    const [origin, store] = isOrigin ? ['lv', 'store'] : ['origin', 'lv']
    return {
      extents: extents * 4 + 4,
      volumes:
        linear(origin as string, 0, extents, '"READ", "WRITE", "VISIBLE"') +
        linear(store as string, extents, extents * 3 + 4) +
        single(
          'joint',
          extents,
          `type = "snapshot" chunk_size = 2 origin = "${origin}" cow_store = "${store}"`,
          '"READ", "WRITE"',
        ),
      prepare(disk) {
        const header = new Uint8Array(16)
        const view = viewOf(header)
        writeU64LE(view, 0, 0x70416e53 + 2 ** 32)
        writeU64LE(view, 8, 1 + 2 * 2 ** 32)
        putExtent(disk, extents, header)
      },
    }
  }

const poolMetadata = 64

/** A pool with blocks of one extent, and room for snapshots, and for what is written anew before the old is given back. */
function thin(extents: number): Layout {
  const blocks = extents * 6 + 16
  return {
    extents: blocks + poolMetadata,
    volumes:
      top(extents, 'type = "thin" thin_pool = "pool" transaction_id = 0 device_id = 1') +
      single(
        'pool',
        blocks,
        `type = "thin-pool" metadata = "pool_tmeta" pool = "pool_tdata" transaction_id = 0 chunk_size = ${extentSize / 512} discards = "passdown" zero_new_blocks = 1`,
      ) +
      linear('pool_tdata', 0, blocks) +
      linear('pool_tmeta', blocks, poolMetadata),
    prepare: (disk) => putExtent(disk, blocks, newThinPool(poolMetadata, blocks, extentSize)),
  }
}

function striped(extents: number): Layout {
  const each = Math.ceil(extents / 2)
  return {
    extents: each * 2,
    volumes: top(
      each * 2,
      `type = "striped" stripe_count = 2 stripe_size = 2 stripes = ["pv0", 0, "pv0", ${each}]`,
    ),
  }
}

/** Kinds of volumes, by number of logical extents. */
export const layouts: Readonly<Record<string, (extents: number) => Layout>> = {
  linear: (extents) => ({ extents, volumes: linear('lv', 0, extents, '"READ", "WRITE", "VISIBLE"') }),
  striped,
  mirror,
  raid1: raid('raid1', 2, 1),
  raid4: raid('raid4', 4, 3),
  raid5: raid('raid5_ls', 4, 3),
  raid6: raid('raid6_zr', 5, 3),
  raid10: raid('raid10', 4, 2),
  snapshot: snapshot(false),
  origin: snapshot(true),
  thin,
}

/** Images that hold other data than the rest. */
const dataImages: Readonly<Record<string, number>> = { striped: 2, raid4: 3, raid5: 3, raid6: 3, raid10: 2 }

/** Bytes of a volume of this kind for a disk of that size: whole stripes. */
export function volumeSize(requested: number, kind: string): number {
  const extents = Math.max(1, Math.ceil(requested / extentSize))
  const step = dataImages[kind] ?? 1
  return Math.ceil(extents / step) * step * extentSize
}
