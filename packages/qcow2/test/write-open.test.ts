import { type DiskImage, openImage } from '@img/core'
import { content } from '@tooling/test-disks/disks'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { buildImage, COPIED } from './support/build.js'
import { registry } from './support/disks.js'

/** A 64 KiB cluster image of 1 MiB with one data cluster: header, refcount table, L1, refcount block, L2, data. */
function small(edit?: (view: DataView) => void, incompatible: readonly number[] = []): Uint8Array {
  const cluster = 65536
  const bytes = buildImage({
    clusterBits: 16,
    size: 1048576,
    incompatible,
    tables: new Map([[0, new Map([[0, COPIED | BigInt(5 * cluster)]])]]),
    clusters: 6,
  })
  const view = new DataView(bytes.buffer)
  view.setBigUint64(cluster, BigInt(4 * cluster))
  for (let i = 0; i < 6; i++) view.setUint16(4 * cluster + i * 2, 1)
  bytes.fill(7, 5 * cluster)
  edit?.(view)
  return bytes
}

function open(storage: MemoryStorage, warnings: string[] = []): Promise<DiskImage> {
  const onWarning = (message: string, code = '?'): void => void warnings.push(message, code)
  return openImage(storage, { registry, format: 'qcow2', writable: true, onWarning })
}

describe('opening for writing', () => {
  it('changes nothing before the first change', async () => {
    const bytes = small((view) => view.setUint32(88, 0x8000_0000))
    const storage = new MemoryStorage(bytes.slice())
    const disk = await open(storage)
    await content(disk)
    await disk.flush?.()
    await disk.close()
    expect(storage.writes).toBe(0)
  })

  it('clears unknown autoclear bits, and no others, with the first change', async () => {
    const storage = new MemoryStorage(small((view) => view.setUint32(88, 0x8000_0000)))
    const disk = await open(storage)
    await disk.write?.(0, new Uint8Array([1]))
    expect(new DataView(storage.bytes.buffer).getUint32(88)).toBe(0)
    await disk.close()
  })

  it('tells of a size that is no multiple of a sector', async () => {
    const warnings: string[] = []
    const size = new DataView(small().buffer).getUint32(28)
    const disk = await open(new MemoryStorage(small((view) => view.setUint32(28, size + 100))), warnings)
    expect(disk.size).toBe(size)
    expect(warnings).toEqual([expect.stringContaining('no multiple of 512'), 'WARN_NOT_PART'])
    await disk.close()
  })

  it('refuses an image that is marked as corrupt, which can still be read', async () => {
    const storage = new MemoryStorage(small(undefined, [1]))
    await expect(open(storage)).rejects.toThrow(/marked as corrupt/)
    expect(storage.writes).toBe(0)
    await (await openImage(storage, { registry, format: 'qcow2' })).read(0, new Uint8Array(512))
  })

  it('refuses a storage that cannot be written', async () => {
    const storage = new MemoryStorage(small())
    Object.defineProperty(storage, 'write', { value: undefined })
    await expect(open(storage)).rejects.toMatchObject({ code: 'IMG_READ_ONLY' })
  })

  const cluster = 65536
  for (const [what, edit, at = 0] of [
    [
      'an entry points at the refcount block',
      (v) => v.setBigUint64(3 * cluster, COPIED | BigInt(4 * cluster)),
    ],
    ['an entry points at the header', (v) => v.setBigUint64(3 * cluster, COPIED | BigInt(3 * cluster))],
    ['two structures share a cluster', (v) => v.setBigUint64(cluster, BigInt(3 * cluster))],
    ['a table counts as free', (v) => v.setUint16(4 * cluster + 3 * 2, 0), 600_000],
    ['the refcount table is unaligned', (v) => v.setBigUint64(cluster, BigInt(4 * cluster + 512))],
  ] as readonly [string, (view: DataView) => void, number?][]) {
    it(`writes nothing but that the image is corrupt where ${what}`, async () => {
      const bytes = small(edit)
      const storage = new MemoryStorage(bytes.slice())
      const attempt = open(storage).then((disk) => disk.write?.(at, new Uint8Array(512).fill(9)))
      await expect(attempt).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
      const after = storage.content().slice()
      after[79] = (after[79] as number) & ~2
      expect(Buffer.compare(after, bytes)).toBe(0)
    })
  }

  it('gives room back that a failed write had taken', async () => {
    const storage = new MemoryStorage(small(), { async: true })
    const disk = await open(storage)
    const { write } = storage
    storage.write = async (offset, bytes) => {
      if (bytes[0] === 9) throw new Error('no space')
      await write.call(storage, offset, bytes)
    }
    const data = new Uint8Array(cluster).fill(9)
    await expect(disk.write?.(3 * cluster, data)).rejects.toThrow('no space')
    storage.write = write
    await disk.write?.(8 * cluster, data.fill(8))
    await disk.close()
    // The same cluster of the file was used.
    expect(storage.size).toBe(7 * cluster)
    const again = await openImage(storage, { registry, format: 'qcow2' })
    const found = await content(again)
    expect(found[8 * cluster]).toBe(8)
    expect(found[3 * cluster]).toBe(0)
  })
})
