import { describe, expect, it } from 'vitest'
import { content, copy, create, open, patchFooter, pattern } from './support/images.js'

const size = 1 << 20

describe('growing', () => {
  it.each([
    ['within the last block', size + 512, false],
    ['to more blocks than the table had room for in its last sector', 300 << 20, true],
    ['by one block', 3 << 20, false],
  ])('a dynamic disk %s', async (_, wanted, moved) => {
    const target = await create(size, { force_size: true })
    const disk = await open(target, { writable: true })
    await disk.write?.(0, pattern(size, 1))
    const table = (): number => Buffer.from(target.bytes()).readUInt32BE(512 + 20)
    const before = table()
    await disk.resize?.(wanted)
    expect(disk.size).toBe(wanted)
    expect(table() !== before).toBe(moved)
    await disk.write?.(wanted - 100, pattern(100, 2))
    await disk.close()
    const file = copy(target)
    expect(Buffer.compare(file.subarray(0, 512), file.subarray(-512))).toBe(0)
    const again = await open(file, { onWarning: (message) => expect(message).toBe('') })
    expect(again.size).toBe(wanted)
    const start = new Uint8Array(size)
    await again.read(0, start)
    expect(Buffer.compare(start, pattern(size, 1))).toBe(0)
    const rest = new Uint8Array(Math.min(wanted - size, 4 << 20))
    await again.read(size, rest)
    const zeros = rest.subarray(0, Math.min(rest.length, wanted - size - 100))
    expect(zeros.every((byte) => byte === 0)).toBe(true)
    const end = new Uint8Array(100)
    await again.read(wanted - 100, end)
    expect(Buffer.compare(end, pattern(100, 2))).toBe(0)
  })

  it('a fixed disk: the old footer is not seen', async () => {
    const target = await create(size, { subformat: 'fixed', force_size: true })
    const disk = await open(target, { writable: true })
    await disk.write?.(0, pattern(size, 1))
    for (const wanted of [size + 512, size + 1024, 3 << 20]) {
      await disk.resize?.(wanted)
      const model = new Uint8Array(wanted)
      model.set(pattern(size, 1))
      expect(Buffer.compare(await content(disk), model)).toBe(0)
      expect(target.size).toBe(wanted + 512)
      expect(Buffer.compare(await content(await open(copy(target))), model)).toBe(0)
    }
  })

  it('a fixed disk that showed less than its file holds: the rest was never the guest’s, and is zeros', async () => {
    const target = await create(size, { subformat: 'fixed', force_size: true })
    const disk = await open(target, { writable: true })
    await disk.write?.(0, pattern(size, 1))
    await disk.close()
    const file = copy(target)
    patchFooter(file, size, (view) => {
      for (const [i, byte] of [...'qemu'].entries()) view.setUint8(28 + i, byte.charCodeAt(0))
      view.setUint16(56, 10)
      view.setUint8(58, 4)
      view.setUint8(59, 17)
    })
    const small = await open(file, { writable: true })
    const before = small.size
    expect(before).toBe(10 * 4 * 17 * 512)
    await small.resize?.(before + 34_816)
    const model = pattern(size, 1)
      .slice(0, before + 34_816)
      .fill(0, before)
    expect(Buffer.compare(await content(small), model)).toBe(0)
    expect(Buffer.compare(await content(await open(file)), model)).toBe(0)
  })

  it('goes on when part of the table is used: every block keeps its place', async () => {
    const target = await create(200 << 20, { force_size: true })
    const disk = await open(target, { writable: true })
    for (let at = 0; at < 200; at += 40) await disk.write?.(at << 20, pattern(1000, at))
    await disk.resize?.(700 << 20)
    await disk.write?.(699 << 20, pattern(1000, 699))
    await disk.resize?.(1300 << 20)
    await disk.write?.(1299 << 20, pattern(1000, 1299))
    await disk.close()
    const again = await open(copy(target))
    for (const at of [0, 40, 80, 120, 160, 699, 1299]) {
      const bytes = new Uint8Array(1000)
      await again.read(at * 1024 * 1024, bytes)
      expect(Buffer.compare(bytes, pattern(1000, at)), String(at)).toBe(0)
    }
  })

  it.each(['qemu', 'qem2', 'win '])('is exact for disks made by %s', async (creator) => {
    const target = await create(34_816 * 10)
    const file = copy(target)
    for (const at of [0, file.length - 512]) {
      patchFooter(file, at, (view) => {
        for (const [i, char] of [...creator].entries()) view.setUint8(28 + i, char.charCodeAt(0))
      })
    }
    await target.write(0, file)
    const disk = await open(target, { writable: true })
    for (const wanted of [34_816 * 11, 34_816 * 11 + 512]) {
      await disk.resize?.(wanted)
      expect((await open(copy(target))).size).toBe(wanted)
    }
    const { extra } = await disk.info()
    expect(extra?.['creator-app']).toBe(creator === 'qemu' ? 'qem2' : creator.trim())
  })
})

describe('what is refused', () => {
  it.each([
    ['a smaller disk', size - 512, { shrink: true }, 'IMG_UNSUPPORTED'],
    ['part of a sector', size + 1, {}, 'IMG_BAD_OPTION'],
    ['preallocation', size * 2, { preallocation: 'full' }, 'IMG_UNSUPPORTED'],
    ['more than 2040 GiB', 2041 * 1024 ** 3, {}, 'IMG_UNSUPPORTED_SIZE'],
  ] as const)('%s', async (_, wanted, options, code) => {
    for (const subformat of ['dynamic', 'fixed']) {
      const target = await create(size, { force_size: true, subformat })
      const before = copy(target)
      const disk = await open(target, { writable: true })
      await expect(disk.resize?.(wanted, options)).rejects.toMatchObject({ code })
      await disk.close()
      expect(Buffer.compare(copy(target), before)).toBe(0)
    }
  })
})
