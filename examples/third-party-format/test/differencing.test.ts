import { createImage, createRegistry, type DiskImage, memoryStorage, noSecret, openImage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { utf16Bytes } from '../src/fields.js'
import { vpc } from '../src/format.js'
import { content, copy, create, type Files, filesOf, open, patchHeader, pattern } from './support/images.js'

const size = 5_013_504 // 144 cylinders of 4 heads and 17 sectors
const base = pattern(size, 9)
const block = 2 << 20

async function filled(target: Awaited<ReturnType<typeof create>>, bytes: Uint8Array): Promise<Uint8Array> {
  const image = await open(target, { writable: true })
  await image.write?.(0, bytes)
  await image.close()
  return copy(target)
}

async function chain(): Promise<{ files: Files; child: Uint8Array }> {
  const files = { 'base.vhd': await filled(await create(size), base) }
  return { files, child: copy(await create(size, { backing_file: 'base.vhd', backing_fmt: 'vhd' }, files)) }
}

async function refusal(image: Promise<DiskImage>): Promise<unknown> {
  return image.then(
    () => 'opened',
    (error) => error,
  )
}

describe('a differencing disk', () => {
  it('shows its parent, takes single sectors over, and leaves the parent alone', async () => {
    const { files, child } = await chain()
    const before = (files['base.vhd'] as Uint8Array).slice()
    const storage = memoryStorage(child, { label: 'disk.vhd' })
    const image = await open(storage, { writable: true, files })
    expect(image.size).toBe(size)
    expect(Buffer.compare(await content(image), base)).toBe(0)
    const model = base.slice()
    const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
      await image.write?.(offset, bytes)
      model.set(bytes, offset)
    }
    await write(700, pattern(100, 1))
    await write(block - 5, pattern(1000, 2))
    await write(size - 1, pattern(1, 3))
    await image.flush?.()
    await write(700 + 512, pattern(10, 4))
    expect(Buffer.compare(await content(image), model)).toBe(0)

    const own = []
    for await (const extent of image.extents())
      if (extent.depth === 0) own.push([extent.offset, extent.length])
    expect(own).toEqual([
      [512, 1024],
      [block - 512, 512],
      [block, 1024],
      [size - 512, 512],
    ])
    await image.close()
    expect(Buffer.compare(await content(await open(copy(storage), { files })), model)).toBe(0)
    expect(Buffer.compare(files['base.vhd'] as Uint8Array, before)).toBe(0)
  })

  it('can be over another, to any depth', async () => {
    const { files, child } = await chain()
    const middle = memoryStorage(child, { label: 'middle.vhd' })
    const image = await open(middle, { writable: true, files })
    await image.write?.(1000, pattern(50, 1))
    await image.close()
    const all = { ...files, 'middle.vhd': copy(middle) }
    const top = await create(size, { backing_file: 'middle.vhd' }, all)
    const disk = await open(top, { writable: true, files: all })
    await disk.write?.(1020, pattern(50, 2))
    const model = base.slice()
    model.set(pattern(50, 1), 1000)
    model.set(pattern(50, 2), 1020)
    expect(Buffer.compare(await content(disk), model)).toBe(0)
    expect(disk.backing?.backing?.backing).toBeUndefined()
  })

  it('is described without its parent, and read only with it', async () => {
    const { child } = await chain()
    const image = await open(child, { inspect: true })
    const info = await image.info()
    expect(info.backing).toEqual({ kind: 'parent', name: 'base.vhd', format: 'vpc' })
    expect(info.extra).toMatchObject({ subformat: 'differencing', 'parent-name': 'base.vhd' })
    await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject({ name: 'ImageError' })
    expect(await refusal(open(child))).toMatchObject({ code: 'IMG_REFERENCE_DENIED' })
    expect(await refusal(open(child, { files: {} }))).toMatchObject({ code: 'IMG_REFERENCE_MISSING' })
  })

  it('refuses a parent with another UUID', async () => {
    const { child } = await chain()
    const files = { 'base.vhd': copy(await create(size)) }
    expect(await refusal(open(child, { files }))).toMatchObject({
      code: 'IMG_CORRUPT',
      message: expect.stringContaining('base.vhd is not its parent'),
    })
  })

  it('cannot be discarded from, nor grown, nor may it be larger than its parent', async () => {
    const { files, child } = await chain()
    const image = await open(child, { writable: true, files })
    expect(image.discard).toBeUndefined()
    expect(image.resize).toBeUndefined()
    await expect(create(size + 34_816, { backing_file: 'base.vhd' }, files)).rejects.toMatchObject({
      code: 'IMG_BAD_OPTION',
    })
  })

  it('may be asked for with the size that its parent was asked for', async () => {
    const files = { 'base.vhd': copy(await create(1_000_000)) }
    for (const size of [1_000_000, 1_009_664]) {
      expect((await open(await create(size, { backing_file: 'base.vhd' }, files), { files })).size).toBe(
        1_009_664,
      )
    }
    await expect(
      create(1_000_000, { backing_file: 'base.vhd', force_size: true }, files),
    ).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })

  it('takes size and geometry from its parent', async () => {
    for (const options of [
      { force_size: true },
      { subformat: 'fixed' },
      { subformat: 'fixed', force_size: true },
    ]) {
      const files = { 'p.vhd': await filled(await create(1_000_448, options), pattern(1000, 1)) }
      const parent = await open(files['p.vhd'])
      const child = await open(await create(parent.size, { backing_file: 'p.vhd' }, files), { files })
      expect(child.size).toBe(parent.size)
      const [{ extra: own }, { extra: theirs }] = [await child.info(), await parent.info()]
      expect(own?.geometry).toEqual(theirs?.geometry)
      expect(own?.['parent-uuid']).toBe(theirs?.uuid)
    }
  })

  it.each([
    ['fixed', { subformat: 'fixed', backing_file: 'base.vhd' }],
    ['a parent of another format', { backing_file: 'base.vhd', backing_fmt: 'raw' }],
    ['a format without a parent', { backing_fmt: 'vpc' }],
    ['a directory', { backing_file: 'dir/' }],
    ['no name', { backing_file: '' }],
  ])('is not made with %s', async (_, options) => {
    const { files } = await chain()
    await expect(create(size, options, files)).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })

  it('zeros over the parent are kept when it is written as a whole', async () => {
    const { files } = await chain()
    const target = memoryStorage()
    const writer = await vpc.create?.(
      target,
      { size, options: { subformat: 'dynamic', force_size: false, backing_file: 'base.vhd' } },
      {
        openReference: async (reference) =>
          (await filesOf(files).open(reference, target, { writable: false })).storage,
        createReference: () => Promise.reject(new Error('none')),
        secret: noSecret,
        warn: () => {},
      },
    )
    if (writer === undefined) throw new Error('no writer')
    await writer.zero?.(0, block)
    const placed = await writer.place(2 * block, size - 2 * block)
    await placed.storage.write(placed.hostOffset, pattern(placed.length, 1))
    await writer.finish()
    const model = base.slice().fill(0, 0, block)
    model.set(pattern(size - 2 * block, 1), 2 * block)
    expect(Buffer.compare(await content(await open(copy(target), { files })), model)).toBe(0)
  })
})

describe('names of the parent', () => {
  const names: readonly (readonly [string, string, string])[] = [
    ['base.vhd', 'W2ru', '.\\base.vhd'],
    ['./base.vhd', 'W2ru', '.\\base.vhd'],
    ['../up/base.vhd', 'W2ru', '..\\up\\base.vhd'],
    ['C:\\vm\\base.vhd', 'W2ku', 'C:\\vm\\base.vhd'],
    ['/vm/base.vhd', 'W2ku', '\\vm\\base.vhd'],
    ['größe 💾.vhd', 'W2ru', '.\\größe 💾.vhd'],
  ]
  it.each(names)('%s is written as %s %s, and read again', async (name, platform, stored) => {
    const files = { [name]: copy(await create(size)) }
    const child = copy(await create(size, { backing_file: name }, files))
    expect(Buffer.from(child.subarray(512 + 576, 512 + 580)).toString('latin1')).toBe(platform)
    expect(Buffer.from(child.subarray(1536, 1536 + stored.length * 2)).toString('utf16le')).toBe(stored)
    const { backing } = await (await open(child, { inspect: true })).info()
    expect(backing?.name).toBe(name.replace(/^\.\//, ''))
    await open(child, { files: { [backing?.name as string]: files[name] as Uint8Array } })
  })

  /** A child with these locators in place of its own; data from byte 1536 on. */
  async function withLocators(locators: readonly (readonly [string, Uint8Array])[], header = 'base.vhd') {
    const { child } = await chain()
    let at = 1536
    const file = child.slice()
    patchHeader(file, (view) => {
      for (let i = 0; i < 24 * 8; i++) view.setUint8(576 + i, 0)
      for (let i = 0; i < 512; i++) view.setUint8(64 + i, 0)
      for (const [i, byte] of utf16Bytes(header, false).entries()) view.setUint8(64 + i, byte)
      for (const [i, [platform, bytes]] of locators.entries()) {
        for (let c = 0; c < 4; c++) view.setUint8(576 + 24 * i + c, platform.charCodeAt(c))
        view.setUint32(576 + 24 * i + 8, bytes.length)
        view.setUint32(576 + 24 * i + 20, at)
        file.set(bytes, at)
        at += bytes.length
      }
    })
    const warnings: string[] = []
    const image = await open(file, { inspect: true, onWarning: (message) => warnings.push(message) })
    return { name: (await image.info()).backing?.name, warnings }
  }

  it('the relative one first, then a file URL, then the absolute one, then the bare name', async () => {
    const relative = ['W2ru', utf16Bytes('..\\a.vhd', true)] as const
    const url = ['MacX', new TextEncoder().encode('file://localhost/v/b%20c.vhd')] as const
    const absolute = ['W2ku', utf16Bytes('C:\\d.vhd\0junk', true)] as const
    const old = ['Wi2k', new Uint8Array(10).fill(65)] as const
    expect((await withLocators([absolute, url, relative])).name).toBe('../a.vhd')
    expect((await withLocators([old, absolute, url])).name).toBe('/v/b c.vhd')
    expect((await withLocators([old, absolute])).name).toBe('C:\\d.vhd')
    expect((await withLocators([old])).name).toBe('base.vhd')
    expect((await withLocators([])).name).toBe('base.vhd')
  })

  it('one that lies past the end of the file is not used, and told', async () => {
    const { child } = await chain()
    patchHeader(child, (view) => view.setUint32(576 + 16, 0x1000))
    const warnings: string[] = []
    const image = await open(child, { inspect: true, onWarning: (message) => warnings.push(message) })
    expect((await image.info()).backing?.name).toBe('base.vhd')
    expect(warnings).toEqual([expect.stringContaining('W2ru')])
  })

  it('none at all is damage', async () => {
    await expect(withLocators([], '')).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })
})

it('a disk that is its own parent is refused', async () => {
  const { files, child } = await chain()
  const registry = createRegistry([vpc])
  const storage = memoryStorage(child)
  const references = { open: async () => ({ storage }) }
  await expect(openImage(storage, { registry, references })).rejects.toMatchObject({ code: 'IMG_CHAIN_LOOP' })
  // Nor can one be made without leave to read the parent.
  const target = memoryStorage()
  await expect(
    createImage(vpc, target, { size, options: { backing_file: 'base.vhd' } }),
  ).rejects.toMatchObject({ code: 'IMG_REFERENCE_DENIED' })
  expect(Object.keys(files)).toEqual(['base.vhd'])
})
