import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type OptionSpecs, parseBool, parseOptions, parseSize } from '../src/options.js'

const hasQemu = spawnSync('qemu-img', ['--version']).status === 0

/** Texts and what qemu-img 7.2 takes them for; undefined: it refuses them. */
const sizes: readonly (readonly [string, number | undefined])[] = [
  ['0', 0],
  ['00', 0],
  ['010', 10],
  ['512', 512],
  ['1b', 1],
  ['1B', 1],
  ['64k', 65536],
  ['64K', 65536],
  ['1.5G', 1.5 * 2 ** 30],
  ['1.k', 1024],
  ['1.', 1],
  ['1.0', 1],
  ['1.1k', 1126],
  ['0.1k', 102],
  ['1.0000001k', 1024],
  ['1t', 2 ** 40],
  ['7P', 7 * 2 ** 50],
  ['0x10', 16],
  ['0X1f', 31],
  ['0x1e', 30],
  ['0.001E', Math.floor(0.001 * 2 ** 60)],
  ['', undefined],
  ['k', undefined],
  ['1.5', undefined],
  ['.5G', undefined],
  ['.5', undefined],
  ['5e3', undefined],
  ['1.5e3k', undefined],
  ['-1', undefined],
  ['5 ', undefined],
  ['1kb', undefined],
  ['1KiB', undefined],
  ['1kk', undefined],
  ['1M5', undefined],
  ['0b1', undefined],
  ['0x', undefined],
  ['0xg', undefined],
  ['0x1.8k', undefined],
  ['1,5k', undefined],
  ['1_000', undefined],
  ['Infinity', undefined],
  ['NaN', undefined],
  ['1.1.1k', undefined],
  ['١', undefined],
]

describe('parseSize', () => {
  it.each(sizes)('takes %j for %s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes)
  })

  it('refuses what is beyond the largest offset, and keeps every byte below', () => {
    expect(parseSize('9007199254740991')).toBe(Number.MAX_SAFE_INTEGER)
    expect(parseSize('9007199254740992')).toBeUndefined()
    expect(parseSize('0x1fffffffffffff')).toBe(Number.MAX_SAFE_INTEGER)
    expect(parseSize('0x20000000000000')).toBeUndefined()
    expect(parseSize('0x400k')).toBe(2 ** 20)
    expect(parseSize('0x1M')).toBe(2 ** 20)
    expect(parseSize('0x1b')).toBe(27)
    expect(parseSize('0x1E')).toBe(30)
    expect(parseSize('0x20000000000k')).toBe(2 ** 51)
    expect(parseSize('0x20000000000000k')).toBeUndefined()
    expect(parseSize('8796093022207.999k')).toBe(8796093022207 * 1024 + 1022)
    expect(parseSize('8P')).toBeUndefined()
    expect(parseSize('7.999P')).toBe(7 * 2 ** 50 + Math.floor(0.999 * 2 ** 50))
    expect(parseSize('1E')).toBeUndefined()
    expect(parseSize('9'.repeat(400))).toBeUndefined()
  })

  it('never takes garbage for a size', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        const bytes = parseSize(text)
        if (!/^(0x[0-9a-f]+|\d+(\.\d*)?[bkmgtpe]?)$/i.test(text)) expect(bytes).toBeUndefined()
        else if (bytes !== undefined) expect(Number.isSafeInteger(bytes) && bytes >= 0).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  it.skipIf(!hasQemu)('agrees with the installed qemu-img (skipped where there is none)', () => {
    const random = fc.sample(
      fc
        .tuple(fc.nat(5000), fc.option(fc.nat(9999)), fc.constantFrom('', 'b', 'k', 'M', 'g', 'T'))
        .map(([whole, fraction, unit]) => `${whole}${fraction === null ? '' : `.${fraction}`}${unit}`),
      { numRuns: 30, seed: 1 },
    )
    // Later versions of qemu-img take a size that starts with its point.
    const texts = sizes.map(([size]) => size).filter((text) => !text.startsWith('.'))
    for (const text of [...texts, ...random]) {
      const run = spawnSync('qemu-img', ['measure', '--output=json', '-O', 'raw', '--size', text], {
        encoding: 'utf8',
      })
      const told: number | undefined = run.status === 0 ? JSON.parse(run.stdout).required : undefined
      const bytes = parseSize(text)
      // It tells whole sectors.
      expect([text, bytes === undefined ? undefined : Math.ceil(bytes / 512) * 512]).toEqual([text, told])
    }
  })
})

describe('parseBool', () => {
  it('knows what qemu knows', () => {
    for (const text of ['on', 'yes', 'true', 'y']) expect(parseBool(text)).toBe(true)
    for (const text of ['off', 'no', 'false', 'n']) expect(parseBool(text)).toBe(false)
    for (const text of ['', 'ON', '1', '0', 'maybe']) expect(parseBool(text)).toBeUndefined()
  })
})

const specs = {
  cluster_size: { kind: 'size', help: 'Cluster', default: 65536, min: 512, max: 2097152, powerOfTwo: true },
  refcount_bits: { kind: 'int', help: 'Bits', min: 1, max: 64 },
  lazy_refcounts: { kind: 'bool', help: 'Lazy', default: false },
  backing_file: { kind: 'string', help: 'Backing' },
  compat: {
    kind: 'oneOf',
    help: 'Version',
    values: ['v2', 'v3'],
    aliases: { '0.10': 'v2', '1.1': 'v3' },
    default: 'v3',
  },
} as const satisfies OptionSpecs

describe('parseOptions', () => {
  it('fills in defaults', () => {
    expect(parseOptions(specs, {})).toEqual({
      cluster_size: 65536,
      refcount_bits: undefined,
      lazy_refcounts: false,
      backing_file: undefined,
      compat: 'v3',
    })
  })

  it('takes texts and values alike', () => {
    const wanted = {
      cluster_size: 4096,
      refcount_bits: 8,
      lazy_refcounts: true,
      backing_file: '7',
      compat: 'v2',
    }
    const texts = {
      cluster_size: '4k',
      refcount_bits: '8',
      lazy_refcounts: 'on',
      backing_file: '7',
      compat: '0.10',
    }
    expect(parseOptions(specs, texts)).toEqual(wanted)
    expect(parseOptions(specs, wanted)).toEqual(wanted)
    expect(parseOptions(specs, { ...wanted, cluster_size: undefined })).toEqual({
      ...wanted,
      cluster_size: 65536,
    })
  })

  it.each([
    ['an unknown name', { nonsense: 1 }, "Invalid parameter 'nonsense'"],
    ['a name every object has', { constructor: 1 }, "Invalid parameter 'constructor'"],
    ['no size', { cluster_size: 'big' }, "Parameter 'cluster_size' expects"],
    ['a fraction of a byte', { cluster_size: 512.5 }, "Parameter 'cluster_size' expects"],
    ['less than the least', { cluster_size: '256' }, 'from 512 to 2097152'],
    ['more than the most', { cluster_size: '4M' }, 'from 512 to 2097152'],
    ['no power of two', { cluster_size: '65535' }, 'a power of two'],
    ['a suffix on a number', { refcount_bits: '1k' }, 'a number'],
    ['a negative number', { refcount_bits: -1 }, 'a number'],
    ['a number beyond the safe ones', { refcount_bits: '99999999999999999999' }, 'a number'],
    ['no boolean', { lazy_refcounts: 'maybe' }, "'on' or 'off'"],
    ['another word', { compat: 'v4' }, "does not accept value 'v4'"],
    ['a name of every object for a word', { compat: 'toString' }, "does not accept value 'toString'"],
  ])('refuses %s', (_, given, message) => {
    const wanted = expect.objectContaining({
      code: 'IMG_BAD_OPTION',
      format: 'toy',
      message: expect.stringContaining(message),
    })
    expect(() => parseOptions(specs, given, 'toy')).toThrow(wanted)
  })

  it('names the options that there are', () => {
    expect(() => parseOptions({}, { a: 1 })).toThrow(expect.objectContaining({ hint: 'known are: none' }))
    expect(() => parseOptions(specs, { a: 1 })).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('refcount_bits') }),
    )
  })
})

describe('files', () => {
  const specs = { pv: { kind: 'files', help: 'disks' } } as const satisfies OptionSpecs

  it.each([
    [
      ['a,b', 'c'],
      ['a,b', 'c'],
    ],
    ['a,b', ['a', 'b']],
    ['a,,b,c,,', ['a,b', 'c,']],
    ['', []],
  ])('takes %j for %j', (given, names) => {
    expect(parseOptions(specs, { pv: given }).pv).toEqual(names)
  })
})
