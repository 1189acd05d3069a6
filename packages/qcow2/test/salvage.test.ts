import { convert, createWriter, type DiskImage, ImageError, memoryStorage, openImage } from '@img/core'
import { content, openRaw, patternDisk } from '@tooling/test-disks/disks'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { registry } from './support/disks.js'

const MB = 1024 * 1024
const disk = patternDisk(9 * MB, 11, 300_000)
/** The last bytes are not zero, so that the size can be told from what is mapped. */
disk.fill(9, disk.length - 5000)

interface Options {
  readonly cluster_size?: number
  readonly extended_l2?: boolean
  readonly compat?: string
}

/** An image of the disk, as bytes. */
async function image(
  options: Options = { cluster_size: 4096 },
  data: Uint8Array = disk,
): Promise<Uint8Array> {
  const target = memoryStorage()
  const writer = await createWriter(qcow2, target, { size: data.length, options: { ...options } })
  await convert(await openRaw(data), writer)
  const bytes = new Uint8Array(target.size)
  await target.read(0, bytes)
  return bytes
}

async function salvage(bytes: Uint8Array): Promise<{ image: DiskImage; warnings: string[] }> {
  const warnings: string[] = []
  const opened = await openImage(new MemoryStorage(bytes), {
    registry,
    format: 'qcow2',
    salvage: true,
    chain: false,
    onWarning: (message) => warnings.push(message),
  })
  return { image: opened, warnings }
}

/** The disk read sector by sector; -1 in place of the first byte of those that cannot be read. */
async function readable(opened: DiskImage): Promise<{ bytes: Uint8Array; lost: number[] }> {
  const bytes = new Uint8Array(opened.size)
  const lost: number[] = []
  for (let at = 0; at < opened.size; at += 4096) {
    const part = bytes.subarray(at, Math.min(opened.size, at + 4096))
    try {
      await opened.read(at, part)
    } catch (error) {
      if (!ImageError.is(error)) throw error
      lost.push(at)
    }
  }
  return { bytes, lost }
}

function expectSame(found: Uint8Array, expected: Uint8Array = disk): void {
  const at = found.findIndex((byte, i) => byte !== expected[i])
  expect(at).toBe(-1)
  expect(found.length).toBe(expected.length)
}

function u64(bytes: Uint8Array, at: number): number {
  return Number(new DataView(bytes.buffer).getBigUint64(at) & 0x00ff_ffff_ffff_fe00n)
}

const kinds: readonly Options[] = [
  { cluster_size: 4096 },
  { cluster_size: 65536 },
  { cluster_size: 16384, extended_l2: true },
  { compat: '0.10', cluster_size: 4096 },
  { cluster_size: 512 },
]

describe('salvage', () => {
  for (const options of kinds) {
    const name = JSON.stringify(options)

    it(`reads what is whole as it is: ${name}`, async () => {
      const { image: opened, warnings } = await salvage(await image(options))
      expectSame(await content(opened))
      expect(warnings).toEqual([])
    })

    it(`reads everything where refcounts are garbage: ${name}`, async () => {
      const bytes = await image(options)
      const table = u64(bytes, 48)
      const block = u64(bytes, table)
      bytes.fill(0x5a, block, block + (options.cluster_size ?? 65536))
      bytes.fill(0xa5, table, table + 64)
      expectSame(await content((await salvage(bytes)).image))
    })

    // With tables so small, holes of the disk have none: what follows them would be out of place.
    for (const [what, garbage] of options.cluster_size === 512
      ? []
      : ([
          ['zeros', 0],
          ['garbage', 0x5a],
        ] as const)) {
      it(`finds the tables of a disk written front to back where the L1 table is ${what}, and says so: ${name}`, async () => {
        const bytes = await image(options)
        const view = new DataView(bytes.buffer)
        bytes.fill(garbage, u64(bytes, 40), u64(bytes, 40) + view.getUint32(36) * 8)
        const { image: opened, warnings } = await salvage(bytes)
        const { bytes: found, lost } = await readable(opened)
        // Parts that no table maps cannot be told from lost ones.
        for (const at of lost) found.set(disk.subarray(at, at + 4096), at)
        expectSame(found)
        expect(warnings.join()).toMatch(/entries of the L1 table are lost/)
      })
    }

    it(`reads the disk where the whole header is gone: ${name}`, async () => {
      const bytes = await image(options)
      bytes.fill(0, 0, 112)
      // Entries that tell more than standard ones cannot be told from them without the header.
      if (options.extended_l2) {
        await salvage(bytes).then(
          async ({ image: opened }) => expect((await readable(opened)).bytes.length).toBeGreaterThan(0),
          (error: unknown) => expect(ImageError.is(error, 'IMG_CORRUPT')).toBe(true),
        )
        return
      }
      const { image: opened, warnings } = await salvage(bytes)
      expectSame(await content(opened), disk.subarray(0, opened.size))
      expect(disk.length - opened.size).toBeLessThan(65536)
      expect(warnings.join()).toMatch(/the size of the disk is lost/)
    })
  }

  for (const [what, edit] of [
    ['its magic number', (v: DataView) => v.setUint32(0, 0)],
    ['its version', (v: DataView) => v.setUint32(4, 77)],
    ['its feature bits', (v: DataView) => v.setUint32(72, 0xffff_ffff)],
    ['the place of the L1 table', (v: DataView) => v.setBigUint64(40, 0x7777_7777_7777n)],
    ['the length of the L1 table', (v: DataView) => v.setUint32(36, 0)],
    ['the place of the refcount table', (v: DataView) => v.setUint32(48, 0xffff_0000)],
    ['the size of clusters', (v: DataView) => v.setUint32(20, 60)],
  ] as const) {
    it(`reads everything where ${what} is damaged`, async () => {
      const bytes = await image()
      edit(new DataView(bytes.buffer))
      const { image: opened } = await salvage(bytes)
      expectSame(await content(opened), disk)
    })
  }

  it('takes an entry with flipped bits for the table that it must have meant, whatever the order', async () => {
    const bytes = await image({ cluster_size: 4096 }, new Uint8Array(9 * MB))
    const storage = new MemoryStorage(bytes)
    const opened = await openImage(storage, { registry, format: 'qcow2', writable: true })
    const expected = new Uint8Array(9 * MB)
    // Tables are made back to front.
    for (let at = 8 * MB; at >= 0; at -= 2 * MB) {
      const part = patternDisk(1000, at + 1, 100)
      expected.set(part, at)
      await opened.write?.(at, part)
    }
    await opened.close()
    const damaged = storage.content().slice()
    const view = new DataView(damaged.buffer)
    const l1 = u64(damaged, 40)
    view.setUint32(l1, view.getUint32(l1) ^ 0x1000_0000)
    view.setUint32(l1 + 8 * 3 + 4, view.getUint32(l1 + 8 * 3 + 4) ^ 0x21)
    const { image: rescued, warnings } = await salvage(damaged)
    expectSame(await content(rescued), expected)
    expect(warnings.join()).toMatch(/2 entries of the L1 table are lost; for 2 of them the L2 table is known/)
  })

  it('loses only what a damaged L2 table maps', async () => {
    const bytes = await image()
    const second = u64(bytes, u64(bytes, 40) + 8)
    bytes.fill(0xff, second, second + 4096)
    const { image: opened } = await salvage(bytes)
    const { bytes: found, lost } = await readable(opened)
    expect([lost[0], lost.length]).toEqual([2 * MB, 512])
    for (const at of lost) found.set(disk.subarray(at, at + 4096), at)
    expectSame(found)
  })

  it('loses only what lay in the part of a file that was cut off', async () => {
    const storage = new MemoryStorage(await image({ cluster_size: 4096 }, new Uint8Array(disk.length)))
    const whole = await openImage(storage, { registry, format: 'qcow2', writable: true })
    for (let at = 0; at < disk.length; at += MB) await whole.write?.(at, disk.subarray(at, at + MB))
    await whole.close()
    const bytes = storage.content()
    const { image: opened } = await salvage(bytes.slice(0, Math.floor(bytes.length * 0.6)))
    const { bytes: found, lost } = await readable(opened)
    expect(lost.length).toBeGreaterThan(0)
    expect(lost.length).toBeLessThan(9 * 256)
    for (const at of lost) found.set(disk.subarray(at, at + 4096), at)
    expectSame(found)
  })

  it('does not take the tables of an image on the disk for its own', async () => {
    const inner = await image({ cluster_size: 4096 }, disk.subarray(0, 3 * MB))
    const outer = new Uint8Array(6 * MB)
    outer.set(inner, 2 * MB)
    outer.fill(3, 0, 50_000)
    const bytes = await image({ cluster_size: 4096 }, outer)
    const view = new DataView(bytes.buffer)
    bytes.fill(0x5a, u64(bytes, 40), u64(bytes, 40) + view.getUint32(36) * 8)
    const { bytes: found, lost } = await readable((await salvage(bytes)).image)
    for (const at of lost) found.set(outer.subarray(at, at + 4096), at)
    expectSame(found, outer)
  })

  it('is not stopped by an L1 table that is told to be far too long', async () => {
    const bytes = await image()
    // Entry count 0x00040000 and more, where a few are needed: all entries behind the end of the file are lost.
    bytes[37] = 4
    const { image: opened, warnings } = await salvage(bytes)
    await using found = opened
    expectSame((await readable(found)).bytes)
    expect(warnings.join()).toMatch(/26\d{4} entries of the L1 table are lost/)
  })

  it('gives up where there is nothing, and never writes', async () => {
    const nothing = new MemoryStorage(patternDisk(MB, 5))
    const options = { registry, format: 'qcow2', salvage: true, chain: false }
    await expect(openImage(nothing, options)).rejects.toSatisfy((error) => ImageError.is(error))
    const whole = new MemoryStorage(await image())
    await expect(openImage(whole, { ...options, writable: true })).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
    })
    expect(whole.writes).toBe(0)
  })
})
