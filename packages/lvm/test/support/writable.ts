import {
  type CreateSpec,
  type Driver,
  defineFormat,
  type Format,
  type ImageWriter,
  type IoOptions,
  memoryStorage,
  openImage,
  viewOf,
  type WritableStorage,
  writeU64LE,
} from '@img/core'
import { lvm } from '../../src/format.js'
import { buildDisk, extentSize, extentStart } from './build.js'

/** What a disk with one volume is laid out as. `extents`: logical ones; the volume that users see is called `lv`. */
type Layout = (extents: number) => { readonly volumes: string; readonly extents: number }

const linear = (name: string, start: number, count: number, status = '"READ", "WRITE"'): string =>
  `${name} { id = "${name}" status = [${status}] segment_count = 1 segment1 { start_extent = 0 extent_count = ${count} type = "striped" stripe_count = 1 stripes = ["pv0", ${start}] } }\n`

const top = (count: number, segment: string): string =>
  `lv { id = "lv" status = ["READ", "WRITE", "VISIBLE"] segment_count = 1 segment1 { start_extent = 0 extent_count = ${count} ${segment} } }\n`

/** Images one after the other. */
const images = (count: number, size: number): string =>
  Array.from({ length: count }, (_, at) => linear(`image${at}`, at * size, size)).join('')

const names = (count: number): string => Array.from({ length: count }, (_, at) => `"image${at}"`).join(', ')

/** RAID without metadata images. `devices` less `parities` hold data. */
const raid =
  (type: string, devices: number, data: number): Layout =>
  (extents) => {
    const each = Math.ceil(extents / data)
    return {
      extents: devices * each,
      volumes:
        top(
          extents,
          `type = "${type}" device_count = ${devices} stripe_size = 2 region_size = 2 raid0_lvs = [${names(devices)}]`,
        ) + images(devices, each),
    }
  }

/** A store of 16 extents with chunks of 512 bytes, behind the origin. */
const snapshot =
  (isOrigin: boolean): Layout =>
  (extents) => ({
    extents: extents * 4 + 4,
    volumes:
      linear(isOrigin ? 'lv' : 'origin', 0, extents, '"READ", "WRITE", "VISIBLE"') +
      linear(isOrigin ? 'store' : 'lv', extents, extents * 3 + 4, '"READ", "WRITE"') +
      `joint { id = "joint" status = ["READ", "WRITE"] segment_count = 1 segment1 { start_extent = 0 extent_count = ${extents} type = "snapshot" chunk_size = 2 origin = "${isOrigin ? 'lv' : 'origin'}" cow_store = "${isOrigin ? 'store' : 'lv'}" } }\n`,
  })

const layouts: Readonly<Record<string, Layout>> = {
  linear: (extents) => ({ extents, volumes: linear('lv', 0, extents, '"READ", "WRITE", "VISIBLE"') }),
  striped: (extents) => {
    const each = Math.ceil(extents / 2)
    return {
      extents: each * 2,
      volumes: top(
        each * 2,
        `type = "striped" stripe_count = 2 stripe_size = 2 stripes = ["pv0", 0, "pv0", ${each}]`,
      ),
    }
  },
  raid1: raid('raid1', 2, 1),
  raid5: raid('raid5_ls', 4, 3),
  raid6: raid('raid6_zr', 5, 3),
  raid10: raid('raid10', 4, 2),
  snapshot: snapshot(false),
  origin: snapshot(true),
}

/** Bytes of a volume of this kind for a disk of that size: whole stripes. */
export function volumeSize(requested: number, kind: string): number {
  const extents = Math.max(1, Math.ceil(requested / extentSize))
  const step = { striped: 2, raid5: 3, raid6: 3, raid10: 2 }[kind] ?? 1
  return Math.ceil(extents / step) * step * extentSize
}

async function writeDisk(
  target: WritableStorage,
  size: number,
  kind: string,
  options: IoOptions,
): Promise<void> {
  const { volumes, extents } = (layouts[kind] as Layout)(size / extentSize)
  const disk = buildDisk(extents, volumes, new Uint8Array(0))
  if (kind === 'snapshot' || kind === 'origin') {
    const header = new Uint8Array(16)
    const view = viewOf(header)
    writeU64LE(view, 0, 0x70416e53 + 2 ** 32)
    writeU64LE(view, 8, 1 + 2 * 2 ** 32)
    disk.set(header, extentStart + size)
  }
  await target.truncate(0, options)
  options.signal?.throwIfAborted()
  await target.write(0, disk, options)
}

/** LVM that makes disks with one volume, so that all of the kit can try it. */
export const writableLvm: Format = defineFormat({
  ...lvm,
  openOptions: { ...lvm.openOptions, lv: { kind: 'string', help: 'Logical volume', default: 'lv' } },
  // Snapshots of the group change more than the volume, and are tested apart.
  async open(storage, context) {
    const { snapshots: _, ...driver } = Object.getOwnPropertyDescriptors(await lvm.open(storage, context))
    return Object.defineProperties({}, driver) as Driver
  },
  createOptions: { kind: { kind: 'string', help: 'How the volume is laid out', default: 'linear' } },
  async create(target: WritableStorage, spec: CreateSpec): Promise<ImageWriter> {
    const kind = String(spec.options.kind)
    let size = volumeSize(spec.size ?? 0, kind)
    let content = memoryStorage(new Uint8Array(size))
    return {
      clusterSize: 1,
      place: (offset, length) => ({
        storage: content as unknown as WritableStorage,
        hostOffset: offset,
        length,
      }),
      async finish(options = {}) {
        if (options.size !== undefined) {
          size = volumeSize(options.size, kind)
          const grown = new Uint8Array(size)
          await content.read(0, grown.subarray(0, Math.min(content.size, size)))
          content = memoryStorage(grown)
        }
        const { signal } = options
        await writeDisk(target, size, kind, { signal })
        signal?.throwIfAborted()
        const bytes = new Uint8Array(size)
        await content.read(0, bytes)
        const image = await openImage(target.slice(0), {
          format: lvm,
          writable: true,
          options: { lv: 'lv' },
          signal,
        })
        try {
          await image.write?.(0, bytes, { signal })
        } finally {
          await image.close()
        }
      },
    }
  },
})
