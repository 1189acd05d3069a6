import { convert, createImage, createWriter, ImageError, openImage, referencesFrom, viewOf } from '@img/core'
import { content, digest, random } from '@tooling/test-disks/disks'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { cow } from '../src/format.js'
import { empty, open, registry } from './support/disks.js'
import { fixtureBytes, fixtures, hasFixture } from './support/fixtures.js'
import { image32 } from './support/old-image.js'

const sound = { checkErrors: 0, corruptions: 0, leaks: 0 }
const references = {
  open: async ({ name }: { readonly name: string }) => ({
    storage: new MemoryStorage(fixtureBytes(name), { label: name }),
    format: 'raw',
  }),
}

describe('fixtures', () => {
  it('are there', () => expect(fixtures.length).toBeGreaterThan(5))
  for (const fixture of fixtures) {
    it(`${fixture.file}: ${fixture.title}`, async () => {
      const storage = new MemoryStorage(fixtureBytes(fixture.file), { label: fixture.file })
      if (fixture.expect === 'reject') {
        const failed = await open(storage, { references }).catch((error: unknown) => error)
        expect(failed).toBeInstanceOf(ImageError)
        return
      }
      await using image = await open(storage, { references })
      expect(image.size).toBe(fixture.virtualSize)
      expect(await digest(image)).toBe(fixture.content?.sha256)
      expect((await image.info()).extra).toMatchObject({ 'header-layout': '64-bit' })
      expect(await image.check?.()).toMatchObject(sound)
    })
  }

  it.skipIf(!hasFixture('uml.cow'))(
    'User Mode Linux itself is another format (skipped without its fixture)',
    () => {
      const head = fixtureBytes('uml.cow').subarray(0, 8)
      expect(cow.probe?.matches({ head, tail: new Uint8Array(0), size: 8192, label: '' })).toBe(false)
    },
  )
})

describe('both layouts', () => {
  for (const sectors of [0, 1, 9, 40, 4097]) {
    it(`reads and writes the 32-bit one: ${sectors} sectors`, async () => {
      const { file, content: model } = image32(sectors)
      const storage = new MemoryStorage(file)
      {
        await using image = await open(storage, { writable: true })
        expect(image.size).toBe(model.length)
        expect((await image.info()).extra).toMatchObject({ 'header-layout': '32-bit' })
        expect(Buffer.compare(await content(image), model)).toBe(0)
        if (sectors > 1) {
          await image.write?.(500, new Uint8Array(100).fill(200))
          model.fill(200, 500, 600)
        }
      }
      await using image = await open(storage)
      expect(Buffer.compare(await content(image), model)).toBe(0)
      expect(await image.check?.()).toMatchObject(sound)
    })
  }

  it('is not led astray by a disk of 512 bytes, or by bits that read as 512', async () => {
    const one = await empty(512)
    await using image = await open(one)
    expect((await image.info()).extra).toMatchObject({ 'header-layout': '64-bit' })
    const { file, content: model } = image32(64)
    file.set([0, 0, 2, 0], 1048)
    await using other = await open(new MemoryStorage(file))
    expect((await other.info()).extra).toMatchObject({ 'header-layout': '32-bit' })
    expect(other.size).toBe(model.length)
  })

  it('shows the backing file and its time', async () => {
    const { file } = image32(8, 'base.raw')
    await using image = await open(new MemoryStorage(file), { inspect: true })
    const { backing, specific } = await image.info()
    expect(backing?.name).toBe('base.raw')
    expect(specific).toMatchObject({ 'backing-file-mtime': 1_000_000_000 })
  })
})

describe('check and repair', () => {
  it('finds sectors that the file does not have, and forgets them', async () => {
    const storage = new MemoryStorage(fixtureBytes('cow-plain.cow'))
    await storage.truncate(storage.size - 2048)
    const before = await open(storage)
    const result = await before.check?.()
    expect(result?.corruptions).toBeGreaterThan(0)
    {
      await using image = await open(storage, { repair: true, writable: true })
      expect(await image.check?.({ repair: 'all' })).toMatchObject({ corruptions: 0 })
    }
    await using image = await open(storage)
    expect(await image.check?.()).toMatchObject(sound)
    await content(image)
  })

  it('finds bits and bytes behind the end', async () => {
    const storage = await empty(9 * 512)
    storage.content()[1057] = 0x80
    await storage.truncate(20_000)
    {
      await using image = await open(storage, { writable: true })
      expect(await image.check?.()).toMatchObject({ corruptions: 1, leaks: 1 })
      expect(await image.check?.({ repair: 'all', dryRun: true })).toMatchObject({ corruptionsFixed: 1 })
      expect(storage.size).toBe(20_000)
      expect(await image.check?.({ repair: 'all' })).toMatchObject({ corruptionsFixed: 1, leaksFixed: 1 })
    }
    await using image = await open(storage)
    expect(await image.check?.()).toMatchObject(sound)
  })
})

describe('maintenance', () => {
  it('cuts and empties', async () => {
    const storage = await empty(100 * 512)
    await using image = await open(storage, { writable: true })
    await image.write?.(0, new Uint8Array(100 * 512).fill(1))
    await image.discard?.(60 * 512, 40 * 512)
    await image.flush?.()
    const before = storage.size
    await image.compact?.()
    expect(storage.size).toBe(before - 40 * 512)
    expect((await content(image))[59 * 512]).toBe(1)
    await image.empty?.()
    expect((await content(image)).every((byte) => byte === 0)).toBe(true)
    expect(storage.size).toBe(1056 + 13)
  })

  it('grows and shrinks while its bitmap ends before the data, in both layouts', async () => {
    const { file, content: model } = image32(40)
    for (const [storage, room] of [
      [new MemoryStorage(file), (1536 - 1048) * 8],
      [await empty(40 * 512), (1536 - 1056) * 8],
    ] as const) {
      {
        await using image = await open(storage, { writable: true })
        if (room === (1536 - 1056) * 8) await image.write?.(0, model)
        await image.resize?.(room * 512)
        expect(image.size).toBe(room * 512)
        await image.write?.(room * 512 - 512, new Uint8Array(512).fill(9))
        await image.resize?.(20 * 512, { shrink: true })
        await image.resize?.(room * 512)
        await expect(image.resize?.(room * 512 + 512)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
      }
      await using image = await open(storage)
      const expected = new Uint8Array(room * 512)
      expected.set(model.subarray(0, 20 * 512))
      expect(Buffer.compare(await content(image), expected)).toBe(0)
      expect(await image.check?.()).toMatchObject(sound)
    }
  })

  it('names another backing file', async () => {
    const names = ['a.raw', `${'b'.repeat(900)}.raw`, 'c.raw']
    const files = referencesFrom(
      Object.fromEntries(
        names.map((name, i) => [name, () => new MemoryStorage(new Uint8Array(4096).fill(i + 1))]),
      ),
    )
    const storage = new MemoryStorage()
    await createImage(cow, storage, { size: 4096, options: { backing_file: 'a.raw' } })
    for (const [i, name] of names.entries()) {
      await using image = await open(storage, { references: files, writable: true })
      expect(image.driver.backing?.name).toBe(name)
      expect((await content(image))[7]).toBe(i + 1)
      const next = names[i + 1]
      await image.setBacking?.(next === undefined ? undefined : { kind: 'backing', name: next })
    }
    await using image = await open(storage)
    expect((await content(image))[7]).toBe(0)
  })

  it('refuses to put a long name in the place of another', async () => {
    const storage = new MemoryStorage()
    await createImage(cow, storage, { size: 4096, options: { backing_file: 'x'.repeat(800) } })
    await using image = await open(storage, { writable: true, chain: false })
    const long = { kind: 'backing', name: 'y'.repeat(700) } as const
    await expect(image.driver.setBacking?.(long)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
  })
})

it('converts both ways', async () => {
  const next = random(5)
  const bytes = new Uint8Array(300_032)
  for (let i = 0; i < 40; i++) {
    const at = Math.floor(next() * bytes.length)
    bytes.fill(1 + Math.floor(next() * 255), at, at + Math.floor(next() * 5000))
  }
  const target = new MemoryStorage()
  const writer = await createWriter(cow, target, { size: bytes.length })
  await using source = await openImage(new MemoryStorage(bytes), { registry, format: 'raw' })
  await convert(source, writer)
  await writer.close?.()
  expect(viewOf(target.content()).getUint32(1048)).toBe(512)
  await using image = await open(target)
  expect(Buffer.compare(await content(image), bytes)).toBe(0)
  expect(await image.check?.()).toMatchObject(sound)
})
