import { describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'
import type { Driver, Format } from '../src/format.js'
import type { DiskImage } from '../src/image.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { noSecret } from '../src/secret.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import type { WritableStorage } from '../src/storage.js'
import { expectCode } from './storage-contract.js'
import { flat, join, pattern, readAll } from './support/disks.js'
import { expectBytes, extentsOf } from './support/extents.js'
import { hookedStorage } from './support/hooked-storage.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const clusterSize = 512
const registry = createRegistry([toy, flat])

async function open(
  clusters: readonly ToyCluster[],
  options: {
    format?: Format
    log?: string[]
    fail?: (op: string) => void
    base?: Uint8Array
    size?: number
  } = {},
): Promise<DiskImage> {
  const file = memoryStorage()
  const { log = [], fail = () => undefined, base, format = toy, size } = options
  await buildToy(file, clusters, { clusterSize, ...(base && { backing: 'base' }), ...(size && { size }) })
  const watched = (name: string, bytes: MemoryStorage): WritableStorage =>
    hookedStorage(bytes, {
      before({ op }) {
        if (op !== 'read') log.push(`${op} ${name}`)
        fail(`${op} ${name}`)
      },
    })
  return openImage(watched('image', file), {
    registry,
    format,
    writable: true,
    references: referencesFrom(base ? { base: () => watched('base', memoryStorage(base)) } : {}),
  })
}

/** The toy format with other members in its driver. */
const toyWith = (change: (driver: Driver) => Partial<Driver>): Format => ({
  ...toy,
  async open(storage, context) {
    const driver = await toy.open(storage, context)
    return Object.defineProperties(Object.create(driver), Object.getOwnPropertyDescriptors(change(driver)))
  },
})

describe('closing a disk', () => {
  it('flushes, and closes driver, storage and backing file, once', async () => {
    const log: string[] = []
    const format = toyWith(({ map }) => ({
      map: Object.assign(Object.create(map), { flush: () => void log.push('flush map') }),
      close: async () => void log.push('close driver'),
    }))
    const disk = await open(['zero'], { format, log, base: pattern(512) })
    await Promise.all([disk.close(), disk.close()])
    await disk[Symbol.asyncDispose]()
    expect(log).toEqual(['flush map', 'flush image', 'close driver', 'close image', 'close base'])
  })

  it('waits for the changes begun before it', async () => {
    const file = memoryStorage()
    await buildToy(file, ['unallocated', 'unallocated'], { clusterSize })
    const storage = hookedStorage(file, { keepOpen: true })
    const disk = await openImage(storage, { format: toy, writable: true })
    const written = [disk.write?.(0, pattern(10)), disk.resize?.(2048), disk.write?.(2000, pattern(10))]
    // The disk ends at 1024 when the last of them is asked for.
    const results = await Promise.allSettled([...written, disk.write?.(500, pattern(100)), disk.close()])
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ])
    const again = await readAll(await openImage(storage, { format: toy }))
    expectBytes(again, join(pattern(10), new Uint8Array(490), pattern(100), new Uint8Array(2048 - 600)))
  })

  it('leaves nothing that works', async () => {
    const snapshots = {
      list: () => [],
      open: () => Promise.reject(new Error('not reached')),
    }
    const disk = await open(['zero'], { format: toyWith(() => ({ snapshots })) })
    const extents = disk.extents()
    await disk.close()
    const attempts = [
      () => disk.read(0, new Uint8Array(1)),
      () => extentsOf({ ...disk, size: 512, extents: () => extents } as DiskImage),
      () => disk.info(),
      () => disk.write?.(0, pattern(1)),
      () => disk.writeZeroes?.(0, 1),
      () => disk.discard?.(0, 1),
      () => disk.resize?.(1024),
      () => disk.flush?.(),
      () => disk.snapshots?.open('1'),
    ]
    for (const attempt of attempts) {
      const error = await expectCode(attempt, 'IMG_CLOSED')
      expect(error).toMatchObject({ source: 'memory', message: 'memory is closed' })
    }
  })

  it('ends extents that are being read', async () => {
    const disk = await open(['zero', pattern(512), 'zero'])
    const extents = disk.extents()[Symbol.asyncIterator]()
    await extents.next()
    await disk.close()
    await expectCode(() => extents.next(), 'IMG_CLOSED')
  })

  it('closes everything also where flushing fails, and says so', async () => {
    const log: string[] = []
    const lost = new ImageError('IMG_IO', 'the disk is gone')
    const disk = await open(['zero'], {
      log,
      base: pattern(512),
      fail(op) {
        if (op === 'flush image') throw lost
      },
    })
    await expect(disk.close()).rejects.toBe(lost)
    await expect(disk.close()).rejects.toBe(lost)
    expect(log).toEqual(['flush image', 'close image', 'close base'])
  })

  it('closes the backing file also where the storage does not close', async () => {
    const log: string[] = []
    const stuck = new Error('stuck')
    const disk = await open(['zero'], {
      log,
      base: pattern(512),
      format: toyWith(() => ({ close: () => Promise.reject(new Error('driver')) })),
      fail(op) {
        if (op === 'close image') throw stuck
      },
    })
    await expect(disk.close()).rejects.toBe(stuck)
    expect(log).toContain('close base')
  })

  it('flushes nothing of a disk that cannot be read', async () => {
    const log: string[] = []
    const unreadable = new ImageError('IMG_UNSUPPORTED', 'no key')
    const disk = await open(['zero'], { log, format: toyWith(() => ({ unreadable })) })
    expect(disk.unreadable).toBe(unreadable)
    for (const attempt of [() => readAll(disk), () => extentsOf(disk), () => disk.write?.(0, pattern(1))])
      await expect(attempt()).rejects.toBe(unreadable)
    expect((await disk.info()).virtualSize).toBe(512)
    await disk.close()
    expect(log).toEqual(['close image'])
  })

  it('tells that a backing file cannot be read', async () => {
    const unreadable = new ImageError('IMG_UNSUPPORTED', 'no key')
    const locked: Format = {
      ...flat,
      open: async (...given) => ({ ...(await flat.open(...given)), size: 512, unreadable }),
    }
    const base = memoryStorage(pattern(512))
    const file = memoryStorage()
    await buildToy(file, ['zero', 'unallocated'], { clusterSize, backing: 'base' })
    const disk = await openImage(file, {
      registry: createRegistry([toy, locked]),
      references: referencesFrom({ base }),
    })
    expect(disk.unreadable).toBe(unreadable)
    await disk.read(0, new Uint8Array(512))
    await disk.read(512, new Uint8Array(512))
    await disk.close()
    const over = memoryStorage()
    await buildToy(over, ['unallocated'], { clusterSize, backing: 'base' })
    const shown = await openImage(over, {
      registry: createRegistry([toy, locked]),
      references: referencesFrom({ base: memoryStorage(pattern(512)) }),
    })
    await expect(readAll(shown)).rejects.toBe(unreadable)
    await expect(extentsOf(shown)).rejects.toBe(unreadable)
  })
})

describe('resizing a disk', () => {
  it('makes it smaller only where that is asked for', async () => {
    const disk = await open([pattern(512), pattern(512)])
    const error = await expectCode(() => disk.resize?.(600), 'IMG_BAD_OPTION')
    expect(error.hint).toContain('--shrink')
    expect(disk.size).toBe(1024)
    await disk.resize?.(600, { shrink: true })
    expectBytes(await readAll(disk), join(pattern(512), pattern(88)))
    await disk.resize?.(600)
    for (const size of [-1, 0.5, 2 ** 53]) await expect(disk.resize?.(size)).rejects.toThrow(RangeError)
  })

  it('shows nothing of what it cut off when it grows again', async () => {
    const disk = await open([pattern(512), pattern(512, 2), pattern(512, 3)])
    await disk.resize?.(700, { shrink: true })
    await disk.resize?.(5000)
    expectBytes(await readAll(disk), join(pattern(512), pattern(188, 2), new Uint8Array(4300)))
  })

  it('leaves nothing of what it cut off in the last cluster, for a cut while it grows again', async () => {
    const file = memoryStorage()
    await buildToy(file, [pattern(512), pattern(512, 2)], { clusterSize })
    const disk = await openImage(file, { registry, writable: true })
    await disk.resize?.(700, { shrink: true })
    await disk.close()
    const bytes = file.bytes()
    const tail = pattern(512, 2).subarray(188)
    const found = bytes.findIndex((_, at) => tail.every((byte, i) => bytes[at + i] === byte))
    expect(found).toBe(-1)
  })

  it('loses nothing where the driver refuses', async () => {
    const file = memoryStorage()
    await buildToy(file, [pattern(512), pattern(512, 2)], { clusterSize })
    const disk = await openImage(file, { registry, writable: true })
    const refusal = new ImageError('IMG_UNSUPPORTED', 'not now')
    Object.assign(disk.driver, { resize: () => Promise.reject(refusal) })
    await expect(disk.resize?.(700, { shrink: true })).rejects.toBe(refusal)
    expectBytes(await readAll(disk), join(pattern(512), pattern(512, 2)))
    await disk.close()
  })

  it('shows nothing of a larger backing file', async () => {
    const disk = await open(['unallocated'], { base: pattern(3000), size: 300 })
    await disk.resize?.(2100)
    expectBytes(await readAll(disk), join(pattern(300), new Uint8Array(1800)))
    await disk.resize?.(4000)
    expectBytes(await readAll(disk), join(pattern(300), new Uint8Array(3700)))
  })

  it('is refused where it would show a larger backing file and nothing can be written', async () => {
    const format = toyWith(({ map }) => ({ map: Object.assign(Object.create(map), { allocate: undefined }) }))
    const disk = await open(['unallocated'], { base: pattern(3000), format })
    await expectCode(() => disk.resize?.(2100), 'IMG_UNSUPPORTED')
    expect(disk.size).toBe(512)
    await disk.resize?.(100, { shrink: true })
    expect(disk.size).toBe(100)
  })

  it('does not grow over a backing file that is not opened', async () => {
    const file = memoryStorage()
    await buildToy(file, ['unallocated'], { clusterSize, backing: 'base' })
    const disk = await openImage(file, { format: toy, writable: true, chain: false })
    await expectCode(() => disk.resize?.(2100), 'IMG_REFERENCE_DENIED')
    expect(disk.size).toBe(512)
    await disk.resize?.(100, { shrink: true })
  })

  it('is not begun once aborted', async () => {
    const disk = await open(['zero'])
    const reason = new Error('no')
    await expect(disk.resize?.(9000, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(disk.size).toBe(512)
  })
})

describe('snapshots of a disk', () => {
  const info = {
    id: '1',
    name: 'before',
    vmStateSize: 0,
    date: { seconds: 0, nanoseconds: 0 },
    vmClock: { seconds: 0, nanoseconds: 0 },
    virtualSize: 1024,
  }

  /** A toy image with one snapshot: what another toy image holds. */
  async function withSnapshot(log: string[] = []): Promise<Format> {
    const old = memoryStorage()
    await buildToy(old, [pattern(512, 9), 'unallocated'], { clusterSize, backing: 'base' })
    return toyWith(() => ({
      snapshots: {
        list: () => [info],
        async open(name) {
          if (name !== '1') throw new ImageError('IMG_NOT_FOUND', `there is no snapshot ${name}`)
          const context = {
            options: {},
            writable: false,
            inspect: false,
            secret: noSecret,
            warn: () => undefined,
          }
          const driver = await toy.open(old, {
            ...context,
            openReference: () => Promise.reject(new Error('no')),
          })
          return {
            ...driver,
            size: 1024,
            backing: undefined,
            close: async () => void log.push('close snapshot'),
          }
        },
        create: async (name) => {
          log.push(`create ${name}`)
          return info
        },
        apply: async (name) => void log.push(`apply ${name}`),
        delete: async (name) => void log.push(`delete ${name}`),
      },
    }))
  }

  it('are disks to be read, over the same backing file', async () => {
    const log: string[] = []
    const disk = await open([pattern(512), 'zero'], {
      format: await withSnapshot(log),
      base: pattern(900, 4),
      log,
    })
    expect(await disk.snapshots?.list()).toEqual([info])
    expect((await disk.info()).snapshots).toEqual([info])
    const snapshot = await disk.snapshots?.open('1')
    expect(snapshot?.write).toBeUndefined()
    expect(snapshot?.backing).toBe(disk.backing)
    expectBytes(
      await readAll(snapshot as DiskImage),
      join(pattern(512, 9), pattern(900, 4).subarray(512), new Uint8Array(124)),
    )
    await snapshot?.close()
    expect(log).toEqual(['close snapshot'])
    await expectCode(() => readAll(snapshot as DiskImage), 'IMG_CLOSED')
    expectBytes(await readAll(disk), join(pattern(512), new Uint8Array(512)))
    await expectCode(() => disk.snapshots?.open('2'), 'IMG_NOT_FOUND')
  })

  it('do not read zeros for a backing file that is not opened', async () => {
    const file = memoryStorage()
    await buildToy(file, ['zero'], { clusterSize, backing: 'base' })
    const disk = await openImage(file, { format: await withSnapshot(), chain: false })
    const snapshot = await disk.snapshots?.open('1')
    await expectCode(() => snapshot?.read(512, new Uint8Array(1)), 'IMG_REFERENCE_DENIED')
  })

  it('are taken, applied and deleted in turn with the changes', async () => {
    const log: string[] = []
    const disk = await open(['unallocated'], { format: await withSnapshot(log), base: pattern(512), log })
    await Promise.all([
      disk.write?.(0, pattern(512)),
      disk.snapshots?.create?.('a'),
      disk.write?.(0, pattern(512)),
      disk.snapshots?.apply?.('b'),
      disk.snapshots?.delete?.('c'),
    ])
    expect(log).toEqual([
      'write image',
      'write image',
      'write image',
      'create a',
      'write image',
      'apply b',
      'delete c',
    ])
  })
})

describe('info', () => {
  it('tells the plain facts', async () => {
    const disk = await open(['zero'], { size: 500 })
    expect(await disk.info()).toEqual({
      format: 'toy',
      label: 'memory',
      virtualSize: 500,
      hostSize: undefined,
      backing: undefined,
      snapshots: undefined,
      clusterSize,
      specific: { codec: 'zlib' },
    })
    expect(disk.clusterSize).toBe(512)
    expect(disk.blockSize).toBe(512)
    expect(disk.format).toBe(toy)
    expect(disk.driver.size).toBe(500)
  })
})
