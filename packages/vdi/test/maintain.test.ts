import { createImage, type DiskImage, ImageError, type OpenOptions, referencesFrom, viewOf } from '@img/core'
import { content, random } from '@tooling/test-disks/disks'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vdi } from '../src/format.js'
import { empty, open } from './support/disks.js'

const block = 128 * 1024
const small = { block_size: block }

async function filled(blocks: number, options: Record<string, unknown> = {}): Promise<MemoryStorage> {
  const storage = await empty(blocks * block, { ...small, ...options })
  await using image = await open(storage, { writable: true })
  for (let i = blocks - 1; i >= 0; i--) await image.write?.(i * block, new Uint8Array(block).fill(i + 1))
  return storage
}

function word(storage: MemoryStorage, at: number): number {
  return viewOf(storage.content()).getUint32(at, true)
}

function setWord(storage: MemoryStorage, at: number, value: number): void {
  viewOf(storage.content()).setUint32(at, value, true)
}

async function verdict(storage: MemoryStorage, repair?: 'leaks' | 'all') {
  const options: OpenOptions = { repair: true, writable: repair !== undefined }
  await using image = await open(storage, options)
  return image.check?.({ repair })
}

const sound = { checkErrors: 0, corruptions: 0, leaks: 0 }

describe('discard and compact', () => {
  it('fills what is given back with the last block, and cuts the file', async () => {
    const storage = await filled(8)
    const before = storage.size
    {
      await using image = await open(storage, { writable: true })
      await image.discard?.(2 * block, 3 * block)
      await image.flush?.()
      const bytes = await content(image)
      expect(bytes.subarray(2 * block, 5 * block).every((byte) => byte === 0)).toBe(true)
      for (const i of [0, 1, 5, 6, 7]) expect(bytes[i * block]).toBe(i + 1)
    }
    expect(storage.size).toBe(before - 3 * block)
    expect(word(storage, 388)).toBe(5)
    expect(await verdict(storage)).toEqual(sound)
  })

  it('gives back blocks of zeros', async () => {
    const storage = await filled(6)
    await using image = await open(storage, { writable: true })
    await image.write?.(block, new Uint8Array(2 * block))
    await image.flush?.()
    const before = storage.size
    await image.compact?.()
    expect(storage.size).toBe(before - 2 * block)
    const bytes = await content(image)
    expect([0, 1, 2, 3, 4, 5].map((i) => bytes[i * block])).toEqual([1, 0, 0, 4, 5, 6])
  })
})

describe('resize', () => {
  for (const options of [{}, { static: true }]) {
    it(`moves the first blocks for a larger block map (${JSON.stringify(options)})`, async () => {
      const storage = await filled(40, options)
      const mapRoom = word(storage, 344) - 512
      const more = mapRoom / 4 + 10_000
      {
        await using image = await open(storage, { writable: true })
        if ('static' in options) await image.resize?.(200 * block)
        else await image.resize?.(more * block)
      }
      await using image = await open(storage)
      expect(image.size).toBe(('static' in options ? 200 : more) * block)
      const bytes = new Uint8Array(50 * block)
      await image.read(0, bytes)
      for (let i = 0; i < 50; i++) expect(bytes[i * block]).toBe(i < 40 ? i + 1 : 0)
      if (!('static' in options)) expect(word(storage, 340)).toBeGreaterThan(512)
      expect(await verdict(storage)).toEqual(sound)
    })
  }

  it('cuts blocks off, and shows none of them when it grows again', async () => {
    const storage = await filled(9)
    await using image = await open(storage, { writable: true })
    await image.resize?.(3 * block + 512, { shrink: true })
    await image.resize?.(9 * block)
    const bytes = await content(image)
    expect(bytes[2 * block]).toBe(3)
    expect(bytes[3 * block + 511]).toBe(4)
    expect(bytes.subarray(3 * block + 512).every((byte) => byte === 0)).toBe(true)
  })
})

describe('headers of other tools', () => {
  it('takes the older geometry where a header of 1.1+ fills in no other', async () => {
    const storage = await filled(2)
    setWord(storage, 468, 0)
    await using image = await open(storage)
    expect((await content(image))[block]).toBe(2)
    setWord(storage, 360, 4096)
    await expect(open(storage)).rejects.toThrow(/sector size 4096/)
  })
})

describe('check and repair', () => {
  it('gives each owner of a shared block its own copy', async () => {
    const storage = await filled(4)
    setWord(storage, 512 + 4, word(storage, 512))
    expect(await verdict(storage)).toMatchObject({ corruptions: 1, leaks: 1 })
    expect(await verdict(storage, 'all')).toMatchObject({
      corruptions: 0,
      corruptionsFixed: 1,
      leaksFixed: 1,
    })
    expect(await verdict(storage)).toEqual(sound)
    await using image = await open(storage)
    const bytes = await content(image)
    expect([bytes[0], bytes[block], bytes[2 * block]]).toEqual([1, 1, 3])
  })

  it('forgets blocks outside the file, and counts anew', async () => {
    const storage = await filled(4)
    setWord(storage, 512, 4711)
    setWord(storage, 388, 77)
    expect((await verdict(storage))?.corruptions).toBe(2)
    expect(await verdict(storage, 'all')).toMatchObject({ corruptions: 0, leaks: 0 })
    expect(await verdict(storage)).toEqual(sound)
    expect(word(storage, 388)).toBe(3)
  })

  it('says what repair would do, and does nothing, when asked so', async () => {
    const storage = await filled(2)
    setWord(storage, 388, 77)
    const before = storage.content().slice()
    await using image = await open(storage, { repair: true })
    const fixed: unknown[] = []
    const options = {
      repair: 'all',
      dryRun: true,
      onFinding: (f: { fixed?: boolean | undefined }) => fixed.push(f.fixed),
    } as const
    expect(await image.check?.(options)).toMatchObject({ corruptionsFixed: 1 })
    expect(fixed).toEqual([true])
    expect(Buffer.compare(before, storage.content())).toBe(0)
  })

  it('repairs leaks only, where only they are to be', async () => {
    const storage = await filled(3)
    await storage.truncate(storage.size + 3 * block)
    expect(await verdict(storage, 'leaks')).toMatchObject({ leaks: 0, leaksFixed: 3 })
    expect(await verdict(storage)).toEqual(sound)
  })
})

describe('parents', () => {
  async function pair(): Promise<{ base: MemoryStorage; child: MemoryStorage }> {
    const base = await filled(4)
    const child = new MemoryStorage()
    const references = referencesFrom({ 'base.vdi': new MemoryStorage(base.content().slice()) })
    await createImage(vdi, child, {
      size: 4 * block,
      options: { ...small, backing_file: 'base.vdi' },
      references,
    })
    return { base, child }
  }
  function withParent(base: MemoryStorage): OpenOptions {
    return { references: referencesFrom({ p: base }), options: { parent: 'p' } }
  }

  it('names its parent by UUID, and by the bytes that find it', async () => {
    const { base, child } = await pair()
    await using image = await open(child, { chain: false })
    const { backing } = image.driver
    expect(backing?.name).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    const [parts] = backing?.signatures ?? []
    for (const { offset, hex } of parts ?? []) {
      const found = Buffer.from(base.content().subarray(offset, offset + hex.length / 2))
      expect(found.toString('hex')).toBe(hex)
    }
    expect(parts?.length).toBe(2)
  })

  it('shows its parent where it holds nothing, and zeros where it says so', async () => {
    const { base, child } = await pair()
    await using image = await open(child, { ...withParent(base), writable: true })
    await image.writeZeroes?.(block, block)
    await image.write?.(2 * block + 5, new Uint8Array([99]))
    const bytes = await content(image)
    expect([bytes[0], bytes[block], bytes[2 * block], bytes[2 * block + 5]]).toEqual([1, 0, 3, 99])
  })

  it('compacts away blocks that are what the parent holds', async () => {
    const { base, child } = await pair()
    {
      await using image = await open(child, { ...withParent(base), writable: true })
      await image.write?.(0, new Uint8Array(block).fill(1))
      await image.write?.(block, new Uint8Array(block).fill(2))
      await image.write?.(2 * block, new Uint8Array(block))
      await image.write?.(3 * block, new Uint8Array([77]))
    }
    expect(word(child, 388)).toBe(4)
    {
      await using image = await open(child, { ...withParent(base), writable: true })
      await image.compact?.()
    }
    expect([0, 1, 2, 3].map((at) => word(child, 512 + at * 4))).toEqual([
      0xffff_ffff, 0xffff_ffff, 0xffff_fffe, 0,
    ])
    expect(word(child, 388)).toBe(1)
    await using image = await open(child, { ...withParent(base), repair: true })
    expect(await image.check?.({})).toEqual(sound)
    const bytes = await content(image)
    expect([0, block, 2 * block, 3 * block, 3 * block + 1].map((at) => bytes[at])).toEqual([1, 2, 0, 77, 4])
  })

  it('compacts by no parent that is its parent no longer', async () => {
    const { base, child } = await pair()
    const other = await filled(5)
    const references = referencesFrom({ p: base, other })
    {
      await using image = await open(child, { references, options: { parent: 'p' }, writable: true })
      await image.write?.(0, new Uint8Array(block).fill(1))
      await image.driver.setBacking?.({ kind: 'backing', name: 'other', format: 'vdi' })
      await image.compact?.()
    }
    expect(word(child, 512)).toBe(0)
  })

  it('refuses a parent that was changed, and another image', async () => {
    const { base, child } = await pair()
    await expect(open(child, withParent(await filled(4)))).rejects.toThrow(/is not its parent/)
    {
      await using image = await open(base, { writable: true })
      await image.write?.(0, new Uint8Array(1))
    }
    await expect(open(child, withParent(base))).rejects.toThrow(/was changed after/)
  })

  it('keeps its own UUID, and changes the other with the first change only', async () => {
    const storage = await filled(1)
    const uuids = () =>
      [storage.content().slice(392, 408), storage.content().slice(408, 424)].map((b) => b.join())
    const [own, modified] = uuids()
    await (await open(storage, { writable: true })).close()
    expect(uuids()).toEqual([own, modified])
    const image: DiskImage = await open(storage, { writable: true })
    await image.write?.(0, new Uint8Array(1))
    await image.flush?.()
    const [, second] = uuids()
    expect(second).not.toBe(modified)
    await image.write?.(0, new Uint8Array(2))
    await image.close()
    expect(uuids()).toEqual([own, second])
    // Its children see the same as before: as with VirtualBox, they are not told of a change.
    const again = await open(storage, { writable: true })
    await again.compact?.()
    await again.resize?.(3 * block)
    await again.flush?.()
    expect(uuids()).toEqual([own, second])
    await again.resize?.(block, { shrink: true })
    await again.close()
    expect(uuids()[1]).not.toBe(second)
  })

  it('takes another parent, or none', async () => {
    const { child } = await pair()
    const other = await filled(4)
    const references = referencesFrom({ other: () => new MemoryStorage(other.content().slice()) })
    {
      await using image = await open(child, { writable: true, chain: false, references })
      await image.driver.setBacking?.({ kind: 'backing', name: 'other', format: 'vdi' })
    }
    {
      await using image = await open(child, withParent(other))
      expect((await content(image))[0]).toBe(1)
    }
    {
      await using image = await open(child, { writable: true, chain: false })
      await image.driver.setBacking?.(undefined)
    }
    await using image = await open(child)
    expect(word(child, 76)).toBe(1)
    expect((await content(image)).every((byte) => byte === 0)).toBe(true)
  })

  it('refuses a parent that is no VDI image', async () => {
    const references = referencesFrom({ raw: new MemoryStorage(new Uint8Array(4096)) })
    const made = createImage(vdi, new MemoryStorage(), {
      size: block,
      options: { backing_file: 'raw' },
      references,
    })
    await expect(made).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
  })
})

/** A version 0.1 image: its header ends at 420, the block map follows, and the blocks after that. */
function oldImage(): MemoryStorage {
  const blocks = 3
  const data = 420 + blocks * 4
  const bytes = new Uint8Array(data + 2 * block)
  const view = viewOf(bytes)
  view.setUint32(64, 0xbeda107f, true)
  view.setUint32(68, 1, true)
  view.setUint32(72, 1, true)
  view.setUint32(348, 512, true)
  view.setUint32(352, blocks * block, true)
  view.setUint32(360, block, true)
  view.setUint32(364, blocks, true)
  view.setUint32(368, 2, true)
  bytes.fill(7, 372, 404)
  for (const [i, entry] of [1, 0xffff_ffff, 0].entries()) view.setUint32(420 + i * 4, entry, true)
  bytes.fill(3, data, data + block)
  bytes.fill(1, data + block)
  return new MemoryStorage(bytes)
}

describe('headers of all versions', () => {
  it('reads version 0.1', async () => {
    await using image = await open(oldImage())
    const bytes = await content(image)
    expect([bytes[0], bytes[block - 1], bytes[block], bytes[2 * block], bytes.at(-1)]).toEqual([
      1, 1, 0, 3, 3,
    ])
    expect((await image.info()).extra).toMatchObject({ version: '0.1' })
    expect(await image.check?.()).toEqual(sound)
  })

  it('does not write version 0.1', async () => {
    await expect(open(oldImage(), { writable: true })).rejects.toBeInstanceOf(ImageError)
  })

  it.each([512, 2048, 2 ** 31])('reads blocks of %i bytes', async (blockSize) => {
    const storage = await empty(2048)
    const dataOffset = word(storage, 344)
    await storage.truncate(dataOffset + 2048)
    const view = viewOf(storage.content())
    const blocks = Math.ceil(2048 / blockSize)
    view.setUint32(376, blockSize, true)
    view.setUint32(384, blocks, true)
    view.setUint32(388, blocks, true)
    // In the opposite order.
    for (let i = 0; i < blocks; i++) view.setUint32(512 + i * 4, blocks - 1 - i, true)
    for (let i = 0; i < 4; i++)
      storage.content().fill(i + 1, dataOffset + i * 512, dataOffset + (i + 1) * 512)
    await using image = await open(storage)
    const bytes = await content(image)
    expect([0, 512, 1024, 1536].map((at) => bytes[at])).toEqual(blocks > 1 ? [4, 3, 2, 1] : [1, 2, 3, 4])
    expect(await image.check?.()).toEqual(sound)
    if (blockSize > 2 ** 27) {
      await expect(open(storage, { writable: true })).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
      return
    }
    await using disk = await open(storage, { writable: true })
    await disk.write?.(700, new Uint8Array(100).fill(9))
    expect((await content(disk))[799]).toBe(9)
  })

  it('keeps the extra bytes of blocks', async () => {
    const next = random(3)
    const storage = await filled(3)
    const dataOffset = word(storage, 344)
    const old = storage.content().slice()
    const extra = 512
    const bytes = new Uint8Array(dataOffset + 3 * (block + extra))
    bytes.set(old.subarray(0, dataOffset))
    for (let i = 0; i < 3; i++) {
      const at = dataOffset + i * (block + extra)
      for (let j = 0; j < extra; j++) bytes[at + j] = 1 + Math.floor(next() * 255)
      bytes.set(old.subarray(dataOffset + i * block, dataOffset + (i + 1) * block), at + extra)
    }
    viewOf(bytes).setUint32(380, extra, true)
    const image = new MemoryStorage(bytes)
    const tag = (entry: number) =>
      image
        .content()
        .slice(dataOffset + entry * (block + extra))
        .subarray(0, extra)
        .join()
    const last = tag(2)
    {
      await using disk = await open(image, { writable: true })
      const all = await content(disk)
      expect([all[0], all[block], all[2 * block]]).toEqual([1, 2, 3])
      await disk.write?.(block - 1, new Uint8Array(2).fill(9))
      // The block of guest block 2 is the first of the file: the last takes its place, extra bytes and all.
      await disk.discard?.(2 * block, block)
    }
    expect(tag(0)).toBe(last)
    await using disk = await open(image)
    const all = await content(disk)
    expect([all[0], all[block - 1], all[block], all[2 * block]]).toEqual([1, 9, 9, 0])
    expect(await verdict(image)).toEqual(sound)
  })
})
