import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chooseSizing, geometryOf, resizedSizing, sectorsOf, virtualSizeOf } from '../src/geometry.js'

const max = 65535 * 16 * 255

describe('geometry by the specification', () => {
  // Sectors, then cylinders, heads, sectors per track as qemu-img 7.2 and Virtual PC record them.
  it.each([
    [68, 1, 4, 17],
    [204, 3, 4, 17],
    [2074 * 2, 61, 4, 17],
    [4 * 1024 * 17 - 1, 1023, 4, 17],
    [4 * 1024 * 17, 140, 16, 31],
    [4 * 1024 * 17 + 17, 819, 5, 17],
    [16 * 1024 * 17 - 1, 1023, 16, 17],
    [16 * 1024 * 17, 561, 16, 31],
    [16 * 1024 * 31, 503, 16, 63],
    [65535 * 16 * 63, 16191, 16, 255],
    [136365211648 / 512, 65278, 16, 255],
    [max, 65535, 16, 255],
    [max + 1, 65535, 16, 255],
  ])('%i sectors', (sectors, cylinders, heads, perTrack) => {
    expect(geometryOf(sectors)).toEqual({ cylinders, heads, sectors: perTrack })
  })

  it('never addresses more than there is, and fields fit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xff00_0000 }), (sectors) => {
        const { cylinders, heads, sectors: perTrack } = geometryOf(sectors)
        expect(cylinders * heads * perTrack).toBeLessThanOrEqual(sectors)
        expect(cylinders).toBeLessThanOrEqual(65535)
        expect(heads).toBeLessThanOrEqual(16)
      }),
    )
  })
})

describe('the size of a new disk', () => {
  it('is rounded up until a geometry says it', () => {
    expect(chooseSizing(1_000_000, false)).toEqual({
      size: 1_009_664,
      geometry: { cylinders: 29, heads: 4, sectors: 17 },
      creatorApp: 'qemu',
    })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 120 * 1024 ** 3 }), (bytes) => {
        const { size, geometry } = chooseSizing(bytes, false)
        expect(size).toBe(sectorsOf(geometry) * 512)
        expect(size).toBeGreaterThanOrEqual(bytes)
        expect(size - bytes).toBeLessThan(16 * 255 * 512)
        // Once rounded, the size stays.
        expect(chooseSizing(size, false).size).toBe(size)
      }),
    )
  })

  it('stays as it is under force_size, in whole sectors', () => {
    expect(chooseSizing(1_000_001, true)).toEqual({
      size: 1954 * 512,
      geometry: { cylinders: 65535, heads: 16, sectors: 255 },
      creatorApp: 'qem2',
    })
  })

  it('stays as it is where no geometry reaches it, up to 2040 GiB', () => {
    expect(chooseSizing(max * 512 + 512, false).size).toBe(max * 512 + 512)
    const limit = 2040 * 1024 ** 3
    expect(chooseSizing(limit, false).size).toBe(limit)
    for (const force of [false, true]) {
      expect(() => chooseSizing(limit + 1, force)).toThrow(
        expect.objectContaining({ code: 'IMG_UNSUPPORTED_SIZE' }),
      )
    }
  })

  it('of nothing is nothing', () => {
    expect(chooseSizing(0, false).size).toBe(0)
    expect(chooseSizing(0, true).size).toBe(0)
  })
})

describe('the size of a grown disk is exact', () => {
  it.each(['qemu', 'vpc ', 'win ', 'qem2'])('made by %s', (creatorApp) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0xff00_0000 }), (sectors) => {
        const grown = resizedSizing(sectors * 512, creatorApp)
        const recorded = { ...grown, currentSize: grown.size }
        expect(virtualSizeOf(recorded, 'auto')).toBe(sectors * 512)
      }),
    )
  })
})

describe('the size of an opened disk', () => {
  const geometry = { cylinders: 30, heads: 4, sectors: 17 }
  const exact = 30 * 4 * 17 * 512
  it.each([
    ['vpc ', exact],
    ['qemu', exact],
    ['qem2', 1 << 20],
    ['win ', 1 << 20],
    ['d2v ', 1 << 20],
    ['tap\0', 1 << 20],
    ['CTXS', 1 << 20],
    ['wa\0\0', 1 << 20],
    ['vbox', 1 << 20],
  ])('by %s', (creatorApp, size) => {
    const recorded = { creatorApp, geometry, currentSize: 1 << 20 }
    expect(virtualSizeOf(recorded, 'auto')).toBe(size)
    expect(virtualSizeOf(recorded, 'chs')).toBe(exact)
    expect(virtualSizeOf(recorded, 'current_size')).toBe(1 << 20)
  })

  it('is the size field where the geometry is the largest', () => {
    const recorded = {
      creatorApp: 'qemu',
      geometry: { cylinders: 65535, heads: 16, sectors: 255 },
      currentSize: 4096,
    }
    expect(virtualSizeOf(recorded, 'auto')).toBe(4096)
    expect(virtualSizeOf(recorded, 'chs')).toBe(4096)
  })
})
