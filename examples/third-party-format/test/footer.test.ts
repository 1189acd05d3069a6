import { createRegistry, memoryStorage, probeFormat } from '@img/core'
import { describe, expect, it } from 'vitest'
import { vpc } from '../src/format.js'
import { content, copy, create, open, patchFooter, pattern } from './support/images.js'

const size = 34_816 * 10

async function dynamic(): Promise<Uint8Array> {
  const target = await create(size)
  const image = await open(target, { writable: true })
  await image.write?.(0, pattern(1000, 1))
  await image.close()
  return copy(target)
}

async function opened(file: Uint8Array): Promise<{ first: number; warnings: string[]; subformat: unknown }> {
  const warnings: string[] = []
  const image = await open(file, { onWarning: (message) => warnings.push(message) })
  const [first = 0] = await content(image)
  return { first, warnings, subformat: (await image.info()).extra?.subformat }
}

const damage = (file: Uint8Array, at: number): void => {
  file[at + 100] = (file[at + 100] as number) ^ 1
}

describe('which footer counts', () => {
  it('a good one at either end is enough, and the lost one is told', async () => {
    const [first = 0] = pattern(1, 1)
    const whole = await dynamic()
    expect(await opened(whole)).toEqual({ first, warnings: [], subformat: 'dynamic' })

    const noEnd = whole.slice()
    damage(noEnd, noEnd.length - 512)
    expect(await opened(noEnd)).toMatchObject({
      first,
      warnings: [expect.stringContaining('at the end is damaged')],
    })

    const noCopy = whole.slice()
    damage(noCopy, 0)
    expect(await opened(noCopy)).toMatchObject({
      first,
      warnings: [expect.stringContaining('at the start is damaged')],
    })

    const neither = noEnd.slice()
    damage(neither, 0)
    await expect(open(neither)).rejects.toMatchObject({ code: 'IMG_CORRUPT', offset: 0 })
  })

  it('a write mends the lost one first', async () => {
    for (const lost of ['copy', 'end', 'cut off']) {
      const whole = await dynamic()
      const file = lost === 'cut off' ? whole.slice(0, -512) : whole
      if (lost !== 'cut off') damage(file, lost === 'copy' ? 0 : file.length - 512)
      const storage = memoryStorage(file)
      const image = await open(storage, { writable: true })
      await image.write?.(2000, pattern(10, 2))
      await image.close()
      expect(await opened(copy(storage)), lost).toMatchObject({ warnings: [], subformat: 'dynamic' })
    }
  })

  it('what the guest of a fixed disk writes is never taken for metadata', async () => {
    const inner = await dynamic()
    const target = await create(inner.length, { subformat: 'fixed', force_size: true })
    const image = await open(target, { writable: true })
    await image.write?.(0, inner)
    await image.close()
    const again = await open(copy(target))
    expect((await again.info()).extra?.subformat).toBe('fixed')
    expect(again.size).toBe(inner.length)
    expect(Buffer.compare(await content(again), inner)).toBe(0)
  })

  it('a fixed disk without its footer is refused, whatever its start looks like', async () => {
    const target = await create(size, { subformat: 'fixed' })
    const footer = copy(target).slice(-512)
    const file = new Uint8Array(size)
    file.set(footer)
    await expect(open(file)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
    await expect(open(new Uint8Array(size))).rejects.toMatchObject({ code: 'IMG_NOT_THIS_FORMAT' })
    await expect(open(new Uint8Array(100))).rejects.toMatchObject({ code: 'IMG_NOT_THIS_FORMAT' })
  })

  it('footers of 511 bytes, from before 2004, are found', async () => {
    const target = await create(size, { subformat: 'fixed' })
    const file = copy(target).slice(0, -1)
    expect(await probeFormat(memoryStorage(file), { registry: createRegistry([vpc]) })).toBe(vpc)
    const image = await open(file)
    expect(image.size).toBe(size)
  })
})

describe('what is not known is refused', () => {
  it.each([
    ['another version', (view: DataView) => view.setUint32(12, 0x2_0000), 'IMG_UNSUPPORTED'],
    ['an obsolete type', (view: DataView) => view.setUint32(60, 5), 'IMG_UNSUPPORTED'],
    ['a size past the file', (view: DataView) => view.setUint16(56, 60), 'IMG_TRUNCATED'],
    ['a size beyond 2^53', (view: DataView) => view.setUint32(48, 0x20_0000), 'IMG_UNSUPPORTED_SIZE'],
    [
      'a size beyond 2040 GiB',
      (view: DataView) => {
        view.setUint32(28, 0x77696e20) // `win `
        view.setUint32(48, 0x200)
      },
      'IMG_UNSUPPORTED_SIZE',
    ],
  ])('%s', async (_, change, code) => {
    const file = copy(await create(size, { subformat: 'fixed' }))
    patchFooter(file, file.length - 512, change)
    await expect(open(file)).rejects.toMatchObject({ code, name: 'ImageError' })
  })
})

describe('warnings', () => {
  it('of a part of a sector at the end, and of a saved state', async () => {
    const file = copy(await create(4096, { subformat: 'fixed', force_size: true }))
    patchFooter(file, file.length - 512, (view) => {
      view.setUint32(52, 4095)
      view.setUint8(84, 1)
    })
    const warnings: string[] = []
    const image = await open(file, { writable: true, onWarning: (message) => warnings.push(message) })
    expect(image.size).toBe(3584)
    expect(warnings).toEqual([
      expect.stringContaining('last 511 bytes'),
      expect.stringContaining('saved state'),
    ])
  })
})

describe('info', () => {
  it('tells what the footer says', async () => {
    const before = Date.now()
    const image = await open(await create(size))
    const { clusterSize, extra } = await image.info()
    expect(clusterSize).toBe(2 << 20)
    expect(extra).toMatchObject({
      subformat: 'dynamic',
      uuid: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      'creator-app': 'qemu',
      'creator-version': '5.3',
      'creator-host': 'Wi2k',
      'current-size': size,
      geometry: { cylinders: 10, heads: 4, sectors: 17 },
      'saved-state': false,
    })
    const created = Date.parse(extra?.created as string)
    expect(Math.abs(created - before)).toBeLessThan(60_000)
  })
})
