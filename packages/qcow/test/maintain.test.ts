import { commit, createImage, createWriter, type OpenOptions, referencesFrom, viewOf } from '@img/core'
import { content, digest, random } from '@tooling/test-disks/disks'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow } from '../src/format.js'
import { empty, open } from './support/disks.js'
import { fixtureBytes, fixtures } from './support/fixtures.js'

const cluster = 4096
const sound = { checkErrors: 0, corruptions: 0, leaks: 0 }

async function filled(clusters: number): Promise<MemoryStorage> {
  const storage = await empty(clusters * cluster)
  await using image = await open(storage, { writable: true })
  for (let i = 0; i < clusters; i++) await image.write?.(i * cluster, new Uint8Array(cluster).fill(i + 1))
  return storage
}

async function verdict(storage: MemoryStorage, repair?: 'leaks' | 'all') {
  await using image = await open(storage, { repair: true, writable: repair !== undefined })
  return image.check?.({ repair })
}

/** Where entry `i` of the first L2 table stands. */
function entryAt(storage: MemoryStorage, i: number): number {
  const view = viewOf(storage.content())
  return view.getUint32(view.getUint32(44) + 4) + i * 8
}

describe('damaged tables', () => {
  it('says that an L2 table is beyond 2^53, and where', async () => {
    const storage = await filled(2)
    const view = viewOf(storage.content())
    view.setUint32(view.getUint32(44), 0x7fff_ffff)
    await using image = await open(storage)
    await expect(content(image)).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
      offset: view.getUint32(44),
      message: expect.stringContaining('L2 table 0 is beyond 2^53'),
    })
  })
})

describe('check and repair', () => {
  it('gives each owner of a shared cluster its own copy', async () => {
    const storage = await filled(5)
    const view = viewOf(storage.content())
    view.setUint32(entryAt(storage, 3) + 4, view.getUint32(entryAt(storage, 1) + 4))
    expect(await verdict(storage)).toMatchObject({ corruptions: 1, leaks: 1 })
    expect(await verdict(storage, 'all')).toMatchObject({ corruptions: 0, corruptionsFixed: 1 })
    expect(await verdict(storage)).toMatchObject(sound)
    await using image = await open(storage)
    const bytes = await content(image)
    expect([0, 1, 2, 3, 4].map((i) => bytes[i * cluster])).toEqual([1, 2, 3, 2, 5])
  })

  it('forgets what cannot be in the file', async () => {
    const storage = await filled(4)
    viewOf(storage.content()).setUint32(entryAt(storage, 2), 7)
    await using damaged = await open(storage)
    await expect(damaged.read(2 * cluster, new Uint8Array(1))).rejects.toMatchObject({
      code: 'IMG_TRUNCATED',
    })
    expect((await verdict(storage))?.corruptions).toBe(1)
    expect(await verdict(storage, 'all')).toMatchObject({ corruptions: 0, corruptionsFixed: 1 })
    expect(await verdict(storage)).toMatchObject(sound)
  })

  it('says what repair would do, and does nothing, when asked so', async () => {
    const storage = await filled(4)
    viewOf(storage.content()).setUint32(entryAt(storage, 2), 7)
    const before = storage.content().slice()
    await using image = await open(storage)
    expect(await image.check?.({ repair: 'all', dryRun: true })).toMatchObject({ corruptionsFixed: 1 })
    expect(Buffer.compare(before, storage.content())).toBe(0)
  })

  it('gives leaked clusters back', async () => {
    const storage = await filled(40)
    const before = storage.size
    {
      await using image = await open(storage, { writable: true })
      await image.discard?.(0, 30 * cluster)
    }
    expect(storage.size).toBe(before)
    expect((await verdict(storage))?.leaks).toBe(30)
    expect(await verdict(storage, 'leaks')).toMatchObject({ leaks: 0, leaksFixed: 30 })
    expect(storage.size).toBe(before - 30 * cluster)
    expect(await verdict(storage)).toMatchObject(sound)
    await using image = await open(storage)
    const bytes = await content(image)
    for (let i = 0; i < 40; i++) expect(bytes[i * cluster]).toBe(i < 30 ? 0 : i + 1)
  })
})

describe('compact', () => {
  it('moves compressed clusters and tables as well', async () => {
    const storage = await empty(6 * 1024 * 1024)
    {
      await using image = await open(storage, { writable: true })
      for (let i = 0; i < 1500; i += 3) {
        const bytes = new Uint8Array(cluster).fill(1 + (i % 250))
        if (i % 2 === 0) await image.writeCompressed?.(i * cluster, bytes)
        else await image.write?.(i * cluster, bytes)
      }
      await image.discard?.(0, 600 * cluster)
      await image.flush?.()
      const before = storage.size
      const all = await content(image)
      await image.compact?.()
      expect(storage.size).toBeLessThan(before * 0.7)
      expect(Buffer.compare(await content(image), all)).toBe(0)
      await image.write?.(0, new Uint8Array([5]))
    }
    expect(await verdict(storage)).toMatchObject({ checkErrors: 0, corruptions: 0 })
    await using image = await open(storage)
    const bytes = new Uint8Array(1)
    await image.read(1497 * cluster, bytes)
    expect(bytes[0]).toBe(1 + (1497 % 250))
  })

  it('leaves nothing that another run would cut', async () => {
    const storage = await empty(1024 * 1024)
    await using image = await open(storage, { writable: true })
    const half = new Uint8Array(cluster)
    const next = random(9)
    for (let at = 0; at < cluster / 3; at++) half[at] = Math.floor(next() * 256)
    // Each compressed cluster has a cluster of the file for itself.
    for (let i = 0; i < 200; i += 2) {
      await image.write?.(i * cluster, new Uint8Array(cluster).fill(1 + i))
      half[0] = i
      await image.writeCompressed?.((i + 1) * cluster, half)
    }
    await image.flush?.()
    const all = await content(image)
    await image.compact?.()
    const once = storage.size
    await image.compact?.()
    expect(storage.size).toBe(once)
    // A hundred clusters of data, fifty with two compressed ones each, a table, the header.
    expect(once).toBeLessThan(155 * cluster)
    expect(Buffer.compare(await content(image), all)).toBe(0)
  })

  it('refuses to move what is damaged', async () => {
    const storage = await filled(4)
    const view = viewOf(storage.content())
    view.setUint32(entryAt(storage, 3) + 4, view.getUint32(entryAt(storage, 1) + 4))
    await using image = await open(storage, { writable: true })
    await expect(image.compact?.()).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })
})

describe('resize', () => {
  it('grows beyond its L1 table, and shows nothing old after it was smaller', async () => {
    const storage = await filled(20)
    await using image = await open(storage, { writable: true })
    await image.resize?.(3 * cluster, { shrink: true })
    await image.resize?.(64 * 1024 * 1024)
    await image.write?.(63 * 1024 * 1024, new Uint8Array([9]))
    await image.flush?.()
    await using again = await open(new MemoryStorage(storage.content().slice()))
    const bytes = await content(again)
    expect([
      bytes[0],
      bytes[2 * cluster],
      bytes[3 * cluster],
      bytes[19 * cluster],
      bytes[63 * 1024 * 1024],
    ]).toEqual([1, 3, 0, 0, 9])
    expect(await again.check?.()).toMatchObject({ corruptions: 0 })
  })
})

describe('backing files', () => {
  const base = new Uint8Array(8 * cluster).fill(7)
  const references = referencesFrom({
    'base.raw': () => new MemoryStorage(base),
    'a much longer name of another base.raw': () => new MemoryStorage(base.slice().fill(8)),
  })
  const options: OpenOptions = { references }

  async function overlay(): Promise<MemoryStorage> {
    const storage = new MemoryStorage()
    await createImage(qcow, storage, { size: base.length, options: { backing_file: 'base.raw' } })
    return storage
  }

  it('are named anew, or not at all', async () => {
    const storage = await overlay()
    const first = async () => {
      await using image = await open(storage, options)
      return [image.driver.backing?.name, (await content(image))[0]]
    }
    expect(await first()).toEqual(['base.raw', 7])
    for (const name of ['a much longer name of another base.raw', undefined]) {
      await using image = await open(storage, { ...options, writable: true })
      await image.setBacking?.(name === undefined ? undefined : { kind: 'backing', name })
      await image.close()
      expect(await first()).toEqual([name, name === undefined ? 0 : 8])
    }
    expect(await verdict(storage)).toMatchObject({ corruptions: 0 })
  })

  it('show again where all was given up', async () => {
    const storage = await overlay()
    const size = storage.size
    await using image = await open(storage, { ...options, writable: true })
    await image.write?.(0, new Uint8Array(4 * cluster).fill(1))
    await image.writeZeroes?.(5 * cluster, cluster)
    await image.flush?.()
    expect((await content(image))[5 * cluster]).toBe(0)
    await image.empty?.()
    expect((await content(image)).every((byte) => byte === 7)).toBe(true)
    expect(storage.size).toBeLessThanOrEqual(size + 1024)
  })
})

describe('commit into a backing file whose format was not recorded: qcow has no place for it', () => {
  it('writes it as raw, but for what would make it look like another format', async () => {
    const base = new MemoryStorage(new Uint8Array(4 * cluster).fill(7))
    const warnings: string[] = []
    const options: OpenOptions = {
      references: referencesFrom({ 'base.raw': base }),
      writable: true,
      writableBacking: () => true,
      onWarning: (text) => warnings.push(text),
    }
    const storage = new MemoryStorage()
    await createImage(qcow, storage, { size: 4 * cluster, options: { backing_file: 'base.raw' } })
    await using image = await open(storage, options)
    await image.write?.(cluster, new Uint8Array(cluster).fill(1))
    await commit(image)
    expect(base.content()[cluster]).toBe(1)
    expect(warnings.join()).toContain('written as raw')
    const before = base.content().slice()
    await image.write?.(0, storage.content().slice(0, 512))
    await expect(commit(image)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
    expect(base.content()).toEqual(before)
  })
})

describe('encryption', () => {
  const key = (text: string) => () => new TextEncoder().encode(text)

  it('is told, and needs a passphrase', async () => {
    const storage = new MemoryStorage(fixtureBytes('qcow1-aes.qcow'))
    await using image = await open(storage, { inspect: true })
    expect((await image.info()).encrypted).toBe(true)
    await expect(open(storage)).rejects.toMatchObject({ code: 'IMG_SECRET_MISSING' })
    await using unread = await open(storage, { repair: true })
    expect(await unread.check?.()).toMatchObject(sound)
    await expect(unread.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'IMG_SECRET_MISSING' })
  })

  for (const async of [false, true]) {
    it(`is QEMU's${async ? ' (asynchronously)' : ''}`, async () => {
      const storage = new MemoryStorage(fixtureBytes('qcow1-aes.qcow'), { async })
      await using image = await open(storage, { secret: key('sixteen byte key') })
      const fixture = fixtures.find(({ file }) => file === 'qcow1-aes.qcow')
      expect(await digest(image)).toBe(fixture?.content?.sha256)
    })
  }

  it('is written so that QEMU reads it, and keeps what was written by turns', async () => {
    const storage = new MemoryStorage()
    const options = { 'encrypt.format': 'aes', 'encrypt.key-secret': 'k' }
    await createImage(qcow, storage, { size: 64 * cluster, options, secret: key('abc') })
    {
      await using image = await open(storage, { secret: key('abc'), writable: true })
      await image.write?.(5000, new Uint8Array(20_000).fill(77))
      expect(image.writeCompressed).toBeUndefined()
    }
    expect(
      storage.content().includes(77) && Buffer.from(storage.content()).includes(Buffer.alloc(512, 77)),
    ).toBe(false)
    await using image = await open(storage, { secret: key('abc') })
    const bytes = await content(image)
    expect([bytes[4999], bytes[5000], bytes[24_999], bytes[25_000]]).toEqual([0, 77, 77, 0])
    await using wrong = await open(storage, { secret: key('abd') })
    expect((await content(wrong))[5000]).not.toBe(77)
  })

  it('is refused in other methods, and with compression', async () => {
    const make = (options: Record<string, unknown>, compress = false) =>
      createWriter(qcow, new MemoryStorage(), { size: cluster, options, compress, secret: key('x') })
    await expect(make({ 'encrypt.format': 'luks' })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    await expect(make({ 'encrypt.format': 'aes' }, true)).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    await expect(make({ 'encrypt.key-secret': 'x' })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })
})
