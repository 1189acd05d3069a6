import { ImageError } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ExtensionType, featureNames, makeFeatureNames, makeStringExtension } from '../src/extensions.js'
import { Autoclear, Compatible, FeatureType, Incompatible, nameFeatures } from '../src/features.js'
import { type Header, headerBytes, l1Entries, parseHeader, serialiseHeader } from '../src/header.js'

/** A plain version 3 header for a disk of 10 MiB. */
const plain: Header = {
  version: 3,
  clusterBits: 16,
  size: 10485760,
  cryptMethod: 0,
  l1Size: 1,
  l1TableOffset: 0x30000,
  refcountTableOffset: 0x10000,
  refcountTableClusters: 1,
  nbSnapshots: 0,
  snapshotsOffset: 0,
  incompatibleFeatures: new Set(),
  compatibleFeatures: new Set(),
  autoclearFeatures: new Set(),
  refcountOrder: 4,
  compressionType: 0,
  unknownFields: new Uint8Array(0),
  extensions: [],
}

function firstCluster(header: Header): Uint8Array {
  const bytes = new Uint8Array(2 ** header.clusterBits)
  bytes.set(serialiseHeader(header))
  return bytes
}

function parse(bytes: Uint8Array): Header {
  return parseHeader(bytes, 'test')
}

const bits = (first: number): fc.Arbitrary<Set<number>> =>
  fc.uniqueArray(fc.integer({ min: first, max: 63 }), { maxLength: 5 }).map((list) => new Set(list))

const extension = fc.oneof(
  fc.record({ type: fc.constant(0xe2792aca), data: fc.uint8Array({ maxLength: 15 }) }),
  fc.record({ type: fc.constant(0x44415441), data: fc.uint8Array({ maxLength: 40 }) }),
  fc.record({ type: fc.integer({ min: 1, max: 0x0500_0000 }), data: fc.uint8Array({ maxLength: 40 }) }),
)

const headers: fc.Arbitrary<Header> = fc
  .record({
    version: fc.constantFrom<2 | 3>(2, 3),
    clusterBits: fc.integer({ min: 9, max: 21 }),
    known: fc.uniqueArray(fc.constantFrom(0, 1, 2, 3, 4)),
    compatible: bits(0),
    autoclear: bits(0),
    l1Size: fc.integer({ min: 0, max: 1000 }),
    extraL1: fc.integer({ min: 0, max: 3 }),
    refcountOrder: fc.integer({ min: 0, max: 6 }),
    cryptMethod: fc.constantFrom(0, 1),
    place: fc.array(fc.integer({ min: 1, max: 2 ** 31 }), { minLength: 3, maxLength: 3 }),
    nbSnapshots: fc.integer({ min: 0, max: 65536 }),
    unknownWords: fc.integer({ min: 0, max: 4 }),
    extensions: fc.array(extension, { maxLength: 4 }),
    backing: fc.option(fc.uint8Array({ minLength: 1, maxLength: 60, min: 1 }), { nil: undefined }),
  })
  .map((given) => {
    const { version, clusterBits, place } = given
    const v3 = version === 3
    const clusterSize = 2 ** clusterBits
    const features = new Set(v3 ? given.known.filter((bit) => bit !== 4 || clusterBits >= 14) : [])
    const entryBytes = features.has(Incompatible.extendedL2) ? 16 : 8
    return {
      version,
      backingFile: given.backing,
      clusterBits,
      size: given.l1Size * (clusterSize / entryBytes) * clusterSize,
      cryptMethod: given.cryptMethod,
      l1Size: given.l1Size + given.extraL1,
      l1TableOffset: (place[0] as number) * clusterSize,
      refcountTableOffset: (place[1] as number) * clusterSize,
      refcountTableClusters: 1,
      nbSnapshots: given.nbSnapshots,
      snapshotsOffset: (place[2] as number) * clusterSize,
      incompatibleFeatures: features,
      compatibleFeatures: v3 ? given.compatible : new Set<number>(),
      autoclearFeatures: v3 ? given.autoclear : new Set<number>(),
      refcountOrder: v3 ? given.refcountOrder : 4,
      compressionType: features.has(Incompatible.compressionType) ? 1 : 0,
      unknownFields: new Uint8Array(v3 ? given.unknownWords * 8 : 0).fill(0xa5),
      extensions: given.extensions,
    }
  })
  .filter(
    (header) => header.size <= Number.MAX_SAFE_INTEGER && headerBytes(header) <= 2 ** header.clusterBits,
  )

describe('header', () => {
  it('comes back as it was written, unknown features, fields and extensions included', () => {
    fc.assert(
      fc.property(headers, (header) => {
        expect(parse(firstCluster(header))).toEqual(header)
      }),
      { numRuns: 300 },
    )
  })

  it('does not fit into a cluster that is too small', () => {
    const extensions = [{ type: 1, data: new Uint8Array(400) }]
    expect(() => serialiseHeader({ ...plain, clusterBits: 9, extensions })).toThrow(RangeError)
  })

  it('counts L1 entries', () => {
    expect(l1Entries(0, plain)).toBe(0)
    expect(l1Entries(1, plain)).toBe(1)
    expect(l1Entries(2 ** 29, plain)).toBe(1)
    expect(l1Entries(2 ** 29 + 1, plain)).toBe(2)
    expect(l1Entries(2 ** 29, { ...plain, incompatibleFeatures: new Set([4]) })).toBe(2)
  })

  it('takes a backing file name with a terminator, but not one with more behind it', () => {
    const name = (text: string): Header => ({ ...plain, backingFile: new TextEncoder().encode(text) })
    expect(parse(firstCluster(name('base.raw\0'))).backingFile).toEqual(new TextEncoder().encode('base.raw'))
    expect(parse(firstCluster(name('\0\0'))).backingFile).toBeUndefined()
    expect(() => parse(firstCluster(name('base\0.raw')))).toThrow('NUL byte')
  })

  it('keeps the last of two extensions of one type, as QEMU does', () => {
    const extensions = ['one', 'two'].map((text) => makeStringExtension(ExtensionType.backingFormat, text))
    const parsed = parse(firstCluster({ ...plain, extensions }))
    expect(parsed.extensions).toEqual(extensions)
  })
})

describe('feature names', () => {
  const names = [
    { type: FeatureType.incompatible, bit: 9, name: 'time travel' },
    { type: FeatureType.incompatible, bit: 10, name: 'x'.repeat(46) },
    { type: FeatureType.autoclear, bit: 9, name: 'something else' },
  ]

  it('come back from the table', () => {
    expect(featureNames([makeFeatureNames(names)])).toEqual(names)
  })

  it('name what is not supported', () => {
    const extensions = [makeFeatureNames(names)]
    const header = { ...plain, incompatibleFeatures: new Set([9, 12, 13, 14, 40]), extensions }
    const failed = attempt(() => parse(firstCluster(header)))
    expect(failed.code).toBe('IMG_UNSUPPORTED')
    expect(failed.message).toContain('time travel, Unknown incompatible feature: 10000007000')
    expect(failed.offset).toBe(72)
    expect(failed.hint).toBeDefined()
  })

  it('are not those of another kind', () => {
    expect(nameFeatures(FeatureType.compatible, [9], names)).toBe('Unknown incompatible feature: 200')
  })
})

function attempt(action: () => unknown): ImageError {
  try {
    action()
  } catch (error) {
    if (ImageError.is(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('a header that contradicts itself is refused where it does', () => {
  type Change = readonly [what: string, code: string, offset: number | undefined, header: Partial<Header>]
  const changes: Change[] = [
    ['L1 table too small', 'IMG_CORRUPT', 36, { size: 2 ** 30 }],
    ['L1 table too large', 'IMG_UNSUPPORTED', 40, { l1Size: 4194305 }],
    ['L1 table misplaced', 'IMG_CORRUPT', 40, { l1TableOffset: 0x30200 }],
    ['L1 table in the header', 'IMG_CORRUPT', 40, { l1TableOffset: 0 }],
    ['refcount table misplaced', 'IMG_CORRUPT', 48, { refcountTableOffset: 1 }],
    ['no refcount table', 'IMG_CORRUPT', 56, { refcountTableClusters: 0 }],
    ['refcount table too large', 'IMG_UNSUPPORTED', 48, { refcountTableClusters: 129 }],
    ['too many snapshots', 'IMG_UNSUPPORTED', 64, { nbSnapshots: 65537, snapshotsOffset: 0x40000 }],
    ['snapshots in the header', 'IMG_CORRUPT', 64, { nbSnapshots: 1 }],
    ['refcounts too wide', 'IMG_CORRUPT', 96, { refcountOrder: 7 }],
    ['unknown compression', 'IMG_UNSUPPORTED', 104, { compressionType: 2 }],
    ['compression without its bit', 'IMG_CORRUPT', 72, { compressionType: 1 }],
    ['bit without compression', 'IMG_CORRUPT', 72, { incompatibleFeatures: new Set([3]) }],
    ['unknown encryption', 'IMG_UNSUPPORTED', 32, { cryptMethod: 3 }],
    ['LUKS without header', 'IMG_CORRUPT', 32, { cryptMethod: 2 }],
    [
      'encryption header for nothing',
      'IMG_CORRUPT',
      32,
      { extensions: [{ type: ExtensionType.encryption, data: new Uint8Array(16) }] },
    ],
    [
      'encryption pointer of the wrong length',
      'IMG_CORRUPT',
      undefined,
      { cryptMethod: 2, extensions: [{ type: ExtensionType.encryption, data: new Uint8Array(15) }] },
    ],
  ]
  for (const [what, code, offset, change] of changes) {
    it(what, () => {
      const failed = attempt(() => parse(firstCluster({ ...plain, ...change })))
      expect(failed).toMatchObject({ code, format: 'qcow2', source: 'test' })
      expect(failed.offset).toBe(offset)
      expect(failed.hint).toBeDefined()
    })
  }

  it('subclusters of less than a sector', () => {
    const header = { ...plain, clusterBits: 13, size: 0, incompatibleFeatures: new Set([4]) }
    expect(attempt(() => parse(firstCluster(header)))).toMatchObject({ code: 'IMG_CORRUPT', offset: 20 })
  })

  it('feature bits are where the specification has them', () => {
    const header = parse(
      firstCluster({
        ...plain,
        incompatibleFeatures: new Set([Incompatible.dirty, Incompatible.corrupt]),
        compatibleFeatures: new Set([Compatible.lazyRefcounts, 33]),
        autoclearFeatures: new Set([Autoclear.bitmaps, 63]),
      }),
    )
    const view = new DataView(serialiseHeader(header).buffer)
    expect(view.getBigUint64(72)).toBe(3n)
    expect(view.getBigUint64(80)).toBe(2n ** 33n + 1n)
    expect(view.getBigUint64(88)).toBe(2n ** 63n + 1n)
  })
})
