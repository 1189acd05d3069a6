import { type ClusterRun, type Driver, ImageError, type Storage } from '@img/core'
import { MemoryStorage } from '@tooling/test-disks/storage'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ExtensionType, makeStringExtension } from '../src/extensions.js'
import { type Build, buildImage, COMPRESSED, COPIED, freeCluster, openDriver } from './support/build.js'

/** What 512 guest bytes are: kind, and host offset of the first where there is one. */
type Sector = readonly [kind: string, host: number | undefined]

const enough = 400

/** Entries and the sectors they mean, by a plain reading of the specification. */
interface Model {
  readonly build: Build
  readonly sectors: readonly Sector[]
}

function tableMap(entries: readonly (readonly bigint[])[], perTable: number): Build['tables'] {
  const tables = new Map<number, Map<number, bigint>>()
  entries.forEach((words, cluster) => {
    if (words.every((word) => word === 0n)) return
    const index = Math.floor(cluster / perTable)
    const table = tables.get(index) ?? new Map<number, bigint>()
    tables.set(index, table)
    words.forEach((word, i) => {
      table.set((cluster % perTable) * words.length + i, word)
    })
  })
  return tables
}

const kinds = fc.array(
  fc.record({
    kind: fc.constantFrom('data', 'zero', 'zero with room', 'unallocated', 'compressed'),
    repeat: fc.integer({ min: 1, max: 60 }),
    host: fc.integer({ min: 40, max: enough - 61 }),
    copied: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12 },
)

/** Clusters of 512 bytes: 64 entries a table, so that runs go across tables. */
const standard: fc.Arbitrary<Model> = kinds.map((runs) => {
  const entries: bigint[][] = []
  const sectors: Sector[] = []
  for (const { kind, repeat, host, copied } of runs) {
    for (let i = 0; i < repeat; i++) {
      const offset = (host + i) * 512
      const flag = copied ? COPIED : 0n
      if (kind === 'data') entries.push([flag | BigInt(offset)])
      else if (kind === 'zero') entries.push([flag | 1n])
      else if (kind === 'zero with room') entries.push([flag | BigInt(offset) | 1n])
      else if (kind === 'compressed') entries.push([COMPRESSED | BigInt(offset + 5)])
      else entries.push([0n])
      const room = kind === 'data' || kind === 'zero with room'
      sectors.push([
        kind.split(' ')[0] as string,
        room ? offset : kind === 'compressed' ? offset + 5 : undefined,
      ])
    }
  }
  const build = {
    clusterBits: 9,
    size: sectors.length * 512,
    tables: tableMap(entries, 64),
    clusters: enough,
  }
  return { build, sectors }
})

/** Extended L2 entries: clusters of 16 KiB with subclusters of 512 bytes. */
const extended: fc.Arbitrary<Model> = fc
  .array(
    fc.record({
      room: fc.boolean(),
      compressed: fc.boolean(),
      follows: fc.boolean(),
      host: fc.integer({ min: 5, max: 30 }),
      first: fc.constantFrom('data', 'zero', 'unallocated'),
      lengths: fc.array(fc.integer({ min: 1, max: 32 }), { maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 20 },
  )
  .map((clusters) => {
    const entries: bigint[][] = []
    const sectors: Sector[] = []
    let last = 0
    for (const { room, compressed, follows, host, first, lengths } of clusters) {
      const at = follows ? last + 1 : host
      last = at
      const offset = at * 16384
      if (compressed) {
        entries.push([COMPRESSED | BigInt(offset), 0n])
        for (let i = 0; i < 32; i++) sectors.push(['compressed', offset])
        continue
      }
      let bitmap = 0n
      let kind: string = first
      let left = lengths[0] ?? 32
      let next = 1
      for (let i = 0; i < 32; i++) {
        if (left-- === 0) {
          left = (lengths[next++] ?? 32) - 1
          kind = kind === 'data' ? 'zero' : kind === 'zero' ? 'unallocated' : 'data'
        }
        const told = !room && kind === 'data' ? 'unallocated' : kind
        if (told === 'data') bitmap |= 1n << BigInt(i)
        if (told === 'zero') bitmap |= 1n << BigInt(32 + i)
        sectors.push([told, room ? offset + i * 512 : undefined])
      }
      entries.push([room ? COPIED | BigInt(offset) : 0n, bitmap])
    }
    const build = {
      clusterBits: 14,
      size: sectors.length * 512,
      tables: tableMap(entries, 1024),
      clusters: 60,
      incompatible: [4],
    }
    return { build, sectors }
  })

/** The sectors of a run, told singly. */
function expand(run: ClusterRun, count: number): Sector[] {
  return Array.from({ length: count }, (_, i) => {
    if (run.kind === 'compressed') return [run.kind, run.hostOffset]
    return [run.kind, run.hostOffset === undefined ? undefined : run.hostOffset + i * 512]
  })
}

async function check({ build, sectors }: Model, starts: readonly number[], async: boolean): Promise<void> {
  const driver = await openDriver(buildImage(build), {}, { async })
  const clusterSectors = 2 ** build.clusterBits / 512
  for (const start of [0, ...starts.map((fraction) => Math.floor(fraction * sectors.length))]) {
    for (let at = start; at < sectors.length; ) {
      const run = await driver.map.lookup(at * 512, (sectors.length - at) * 512)
      expect(run.length % 512).toBe(0)
      const count = run.length / 512
      expect(count).toBeGreaterThan(0)
      const told = sectors.slice(at, at + count)
      expect(expand(run, count)).toEqual(told)
      const [kind, host] = sectors[at] as Sector
      if (run.kind === 'compressed') expect(run.unitOffset).toBe((at % clusterSectors) * 512)
      else if (!async && at + count < sectors.length) {
        // As long as can be: what follows is of another kind or stands elsewhere.
        const continued = host === undefined ? undefined : host + count * 512
        expect(sectors[at + count]).not.toEqual([kind, continued])
      }
      at += count
    }
  }
}

const fractions = fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { maxLength: 3 })

describe('lookup tells what the tables say, in runs as long as can be', () => {
  for (const async of [false, true]) {
    const how = async ? 'asynchronously' : 'at once'
    it(`standard entries, ${how}`, async () => {
      await fc.assert(
        fc.asyncProperty(standard, fractions, (model, starts) => check(model, starts, async)),
        { numRuns: 150 },
      )
    })
    it(`extended entries, ${how}`, async () => {
      await fc.assert(
        fc.asyncProperty(extended, fractions, (model, starts) => check(model, starts, async)),
        { numRuns: 150 },
      )
    })
  }

  it('within a cluster, and no longer than asked for', async () => {
    const build: Build = {
      clusterBits: 16,
      size: 131072,
      tables: tableMap([[0x60000n], [0x70000n]], 8192),
      clusters: 8,
    }
    const { map } = await openDriver(buildImage(build))
    expect(await map.lookup(100, 10)).toMatchObject({ kind: 'data', length: 10, hostOffset: 0x60064 })
    expect(await map.lookup(65535, 65537)).toMatchObject({ kind: 'data', length: 65537, hostOffset: 0x6ffff })
    expect(await map.lookup(131071, 1)).toMatchObject({ kind: 'data', length: 1, hostOffset: 0x7ffff })
  })

  it('many lookups at the same time share what they load', async () => {
    const entries = Array.from({ length: 640 }, (_, i) => [BigInt((200 + (i % 190)) * 512)])
    const build = { clusterBits: 9, size: 640 * 512, tables: tableMap(entries, 64), clusters: enough }
    const storage = new MemoryStorage(buildImage(build), { async: true })
    const { map } = await openDriver(storage)
    const before = storage.reads
    const runs = await Promise.all(entries.map((_, i) => map.lookup(i * 512, 512)))
    runs.forEach((run, i) => {
      expect(run).toMatchObject({ hostOffset: (200 + (i % 190)) * 512 })
    })
    expect(storage.reads - before).toBe(11)
  })

  it('stops when told to', async () => {
    const build: Build = { clusterBits: 16, size: 65536, tables: tableMap([[0x50000n]], 8192), clusters: 6 }
    const { map } = await openDriver(buildImage(build), {}, { async: true })
    const stop = AbortSignal.abort(new Error('enough'))
    await expect(map.lookup(0, 512, { signal: stop })).rejects.toThrow('enough')
    expect(await map.lookup(0, 512)).toMatchObject({ kind: 'data' })
  })
})

describe('compressed clusters', () => {
  it.each([
    [9, 1n, 1024 - 5],
    [12, 3n, 4 * 512 - 5],
    [16, 100n, 101 * 512 - 5],
    [21, 8191n, 8192 * 512 - 5],
  ])('of 2^%i bytes: %i further sectors', async (clusterBits, sectors, hostLength) => {
    const clusterSize = 2 ** clusterBits
    const at = 5 * clusterSize + 5
    const entry = COMPRESSED | (sectors << BigInt(62 - (clusterBits - 8))) | BigInt(at)
    const build: Build = {
      clusterBits,
      size: clusterSize,
      tables: new Map([[0, new Map([[0, entry]])]]),
      clusters: 9,
    }
    const { map } = await openDriver(buildImage(build))
    expect(await map.lookup(100, clusterSize - 100)).toMatchObject({
      kind: 'compressed',
      codec: 'deflate-raw',
      hostOffset: at,
      hostLength,
      unitLength: clusterSize,
      unitOffset: 100,
      length: clusterSize - 100,
    })
  })

  it('end with the file, and know their method', async () => {
    const entry = COMPRESSED | (255n << 54n) | BigInt(5 * 65536 + 1000)
    const tables = new Map([[0, new Map([[0, entry]])]])
    const build: Build = {
      clusterBits: 16,
      size: 65536,
      tables,
      clusters: 6,
      incompatible: [3],
      compressionType: 1,
    }
    const { map } = await openDriver(buildImage(build))
    expect(await map.lookup(0, 1)).toMatchObject({ codec: 'zstd', hostLength: 64536 })
  })
})

describe('an external data file', () => {
  const name = makeStringExtension(ExtensionType.dataFile, 'disk.data')
  const build = (entries: readonly bigint[], extra: Partial<Build> = {}): Uint8Array =>
    buildImage({
      clusterBits: 16,
      size: 65536 * entries.length,
      tables: tableMap(
        entries.map((entry) => [entry]),
        8192,
      ),
      incompatible: [2],
      extensions: [name],
      ...extra,
    })
  const open = (bytes: Uint8Array, data: Storage): Promise<Driver> =>
    openDriver(bytes, { openReference: () => Promise.resolve(data) })

  it('has its first cluster at 0', async () => {
    const data = new MemoryStorage(new Uint8Array(131072))
    const { map } = await open(build([COPIED, COPIED | 65536n, 0n]), data)
    expect(await map.lookup(0, 196608)).toEqual({
      kind: 'data',
      length: 131072,
      storage: data,
      hostOffset: 0,
    })
    expect(await map.lookup(131072, 65536)).toEqual({ kind: 'unallocated', length: 65536 })
  })

  it('is not read past its end, and holds nothing compressed', async () => {
    const data = new MemoryStorage(new Uint8Array(65536))
    const { map } = await open(build([COPIED, COPIED | 65536n, COMPRESSED | 0x50000n]), data)
    expect(await map.lookup(0, 131072)).toMatchObject({ length: 65536 })
    expect(failure(() => map.lookup(65536, 65536)).code).toBe('IMG_TRUNCATED')
    expect(failure(() => map.lookup(131072, 65536)).code).toBe('IMG_CORRUPT')
  })

  it('is asked for by its name, and closed with the image', async () => {
    const data = new MemoryStorage(new Uint8Array(65536))
    let closed = 0
    data.close = async () => {
      closed++
    }
    const asked: unknown[] = []
    const driver = await openDriver(build([COPIED]), {
      openReference(reference) {
        asked.push(reference)
        return Promise.resolve(data)
      },
    })
    expect(asked).toEqual([{ kind: 'data', name: 'disk.data', format: 'raw' }])
    await driver.close?.()
    expect(closed).toBe(1)
  })

  it('is not opened where only information is asked for', async () => {
    const driver = await openDriver(build([COPIED]), { inspect: true })
    expect(driver.unreadable?.code).toBe('IMG_REFERENCE_DENIED')
    expect(driver.unreadable?.message).toContain('disk.data')
    expect(failure(() => driver.map.lookup(0, 1))).toBe(driver.unreadable)
    expect(await driver.info()).toMatchObject({
      specific: { 'data-file': 'disk.data', 'data-file-raw': false },
    })
  })
})

function failure(action: () => unknown): ImageError {
  try {
    action()
  } catch (error) {
    if (ImageError.is(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('damaged entries are errors that name their place', () => {
  const at = freeCluster({ clusterBits: 16, size: 131072, tables: new Map([[0, new Map()]]) }) - 1
  const open = (entry: bigint, extra: Partial<Build> = {}): Promise<Driver> =>
    openDriver(
      buildImage({
        clusterBits: 16,
        size: 131072,
        tables: new Map([[0, new Map([[1, entry]])]]),
        clusters: 6,
        ...extra,
      }),
    )
  const cases: [string, string, bigint, Partial<Build>?][] = [
    ['unaligned', 'IMG_CORRUPT', 0x50200n],
    ['a reserved low bit', 'IMG_CORRUPT', 0x50002n],
    ['a reserved high bit', 'IMG_CORRUPT', (1n << 56n) | 0x50000n],
    ['unaligned although zero', 'IMG_CORRUPT', 0x50201n],
    ['past the end', 'IMG_TRUNCATED', 0x60000n],
    ['far past the end', 'IMG_TRUNCATED', 0x00ff_ffff_ffff_0000n],
    ['flags alone', 'IMG_CORRUPT', COPIED],
    ['zero in version 2', 'IMG_CORRUPT', 1n, { version: 2 }],
    ['compressed data past the end', 'IMG_TRUNCATED', COMPRESSED | 0x60000n],
    ['compressed data in the header', 'IMG_CORRUPT', COMPRESSED | 0x50n],
  ]
  for (const [what, code, entry, extra] of cases) {
    it(what, async () => {
      const { map } = await open(entry, extra)
      const failed = failure(() => map.lookup(70000, 10))
      expect(failed).toMatchObject({ code, format: 'qcow2', source: 'test', offset: at * 65536 + 8 })
      expect(failed.hint).toBeDefined()
      // What lies before can be read, and its run ends in time.
      expect(await map.lookup(0, 131072)).toEqual({ kind: 'unallocated', length: 65536 })
    })
  }

  const subclusters: [string, string, bigint, bigint][] = [
    ['allocated and zero', 'IMG_CORRUPT', 0x50000n, 0x1_0000_0001n],
    ['allocated nowhere', 'IMG_CORRUPT', 0n, 1n],
    ['flags alone', 'IMG_CORRUPT', COPIED, 0n],
    ['the zero flag of standard entries', 'IMG_CORRUPT', 0x50001n, 0n],
    ['past the end', 'IMG_TRUNCATED', 0x60000n, 1n],
  ]
  for (const [what, code, entry, bitmap] of subclusters) {
    it(`subclusters: ${what}`, async () => {
      const tables = new Map([
        [
          0,
          new Map([
            [2, entry],
            [3, bitmap],
          ]),
        ],
      ])
      const { map } = await open(0n, { tables, incompatible: [4] })
      expect(failure(() => map.lookup(70000, 10))).toMatchObject({ code, offset: at * 65536 + 16 })
      expect(await map.lookup(0, 131072)).toEqual({ kind: 'unallocated', length: 65536 })
    })
  }

  const l1: [string, string, bigint, number][] = [
    ['unaligned', 'IMG_CORRUPT', COPIED | 0x30200n, 0x20000],
    ['reserved', 'IMG_CORRUPT', COPIED | (1n << 60n) | 0x30000n, 0x20000],
    ['reserved low', 'IMG_CORRUPT', COPIED | 0x30001n, 0x20000],
    ['flags alone', 'IMG_CORRUPT', COPIED, 0x20000],
    ['past the end', 'IMG_TRUNCATED', COPIED | 0x60000n, 0x60000],
  ]
  for (const [what, code, entry, offset] of l1) {
    it(`L1 entry: ${what}`, async () => {
      const { map } = await open(0n, { l1: new Map([[0, entry]]) })
      expect(failure(() => map.lookup(0, 10))).toMatchObject({ code, offset })
    })
  }
})

describe('huge disks', () => {
  it('1 PiB without data is one run, and its tables are not kept', async () => {
    const build: Build = { clusterBits: 21, size: 2 ** 50, tables: new Map(), clusters: 6 }
    const storage = new MemoryStorage(buildImage(build))
    const { map } = await openDriver(storage)
    const before = storage.bytesRead
    expect(await map.lookup(0, 2 ** 50)).toEqual({ kind: 'unallocated', length: 2 ** 50 })
    const once = storage.bytesRead - before
    expect(once).toBe((2 ** 50 / 2 ** 39) * 8)
    expect(await map.lookup(12345, 2 ** 49)).toEqual({ kind: 'unallocated', length: 2 ** 49 })
    expect(storage.bytesRead - before).toBe(once)
  })

  it('one read looks at one page of L1 and one slice of L2', async () => {
    const tables = new Map([[1_000_000, new Map([[3, 0x30_0000n]])]])
    const build: Build = { clusterBits: 16, size: 2 ** 50, tables }
    const storage = new MemoryStorage(buildImage(build))
    const { map } = await openDriver(storage)
    const before = storage.bytesRead
    const offset = 1_000_000 * 2 ** 29 + 3 * 65536
    expect(await map.lookup(offset, 4096)).toMatchObject({ kind: 'data', hostOffset: 0x30_0000 })
    expect(storage.bytesRead - before).toBe(131072)
  })
})
