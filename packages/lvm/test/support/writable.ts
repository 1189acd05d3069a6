import {
  type CreateSpec,
  type Driver,
  defineFormat,
  type Format,
  type ImageWriter,
  type IoOptions,
  memoryStorage,
  openImage,
  type WritableStorage,
} from '@img/core'
import { lvm } from '../../src/format.js'
import { buildDisk, extentSize } from './build.js'
import { isThin, judge } from './judge.js'
import { type Layout, layouts, volumeSize } from './layouts.js'

async function writeDisk(
  target: WritableStorage,
  size: number,
  kind: string,
  options: IoOptions,
): Promise<void> {
  const layout = layouts[kind] as (extents: number) => Layout
  const { volumes, extents, prepare } = layout(size / extentSize)
  const disk = buildDisk(extents, volumes, new Uint8Array(0))
  prepare?.(disk)
  await target.truncate(0, options)
  options.signal?.throwIfAborted()
  await target.write(0, disk, options)
}

/** The kit gives snapshots one name, which volumes cannot have. */
function withNames(driver: Driver): Driver {
  const { snapshots } = driver
  const create = snapshots?.create
  if (snapshots !== undefined && create !== undefined) {
    snapshots.create = async (name, options) => {
      const taken = (await snapshots.list()).map((each) => each.name)
      let free = name
      for (let at = 2; taken.includes(free); at++) free = `${name}${at}`
      return create.call(snapshots, free, options)
    }
  }
  return driver
}

/** LVM that makes disks with one volume, so that all of the kit can try it. */
export const writableLvm: Format = defineFormat({
  ...lvm,
  openOptions: { ...lvm.openOptions, lv: { kind: 'string', help: 'Logical volume', default: 'lv' } },
  // Classic snapshots need room beside the volume, and are tested apart.
  async open(storage, context) {
    const whole = await lvm.open(storage, context)
    // A disk that is opened again has to be one that the kernel takes.
    if (context.writable !== true && context.inspect !== true) await judge(storage, whole)
    const thin = await isThin(storage)
    context.signal?.throwIfAborted()
    if (thin) return withNames(whole)
    const { snapshots: _, ...driver } = Object.getOwnPropertyDescriptors(whole)
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
