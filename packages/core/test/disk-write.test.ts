import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { alignUp } from '../src/bytes.js'
import type { Format } from '../src/format.js'
import type { DiskImage } from '../src/image.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import { expectCode } from './storage-contract.js'
import { flat, join, pattern, readAll } from './support/disks.js'
import { expectBytes } from './support/extents.js'
import {
  type HookOptions,
  hookedStorage,
  jitter,
  readOnlyStorage,
  type StorageCall,
} from './support/hooked-storage.js'
import { toyFile } from './toy-file.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const clusterSize = 512
const registry = createRegistry([toy, flat])

interface Opened {
  readonly file: MemoryStorage
  readonly disk: DiskImage
  readonly calls: StorageCall[]
}

async function writable(
  clusters: readonly ToyCluster[],
  options: HookOptions & { base?: Uint8Array; format?: Format; size?: number } = {},
): Promise<Opened> {
  const file = memoryStorage()
  const { base, size, before, ...hooks } = options
  await buildToy(file, clusters, { clusterSize, ...(base && { backing: 'base' }), ...(size && { size }) })
  const calls: StorageCall[] = []
  const storage = hookedStorage(file, {
    ...hooks,
    async before(call) {
      calls.push(call)
      await before?.(call)
    },
  })
  const disk = await openImage(storage, {
    registry,
    format: options.format ?? toy,
    writable: true,
    references: referencesFrom(base ? { base: memoryStorage(base.slice()) } : {}),
  })
  calls.length = 0
  return { file, disk, calls }
}

const writes = (calls: readonly StorageCall[]): StorageCall[] => calls.filter(({ op }) => op === 'write')

describe('copy-on-write', () => {
  const base = pattern(4 * clusterSize, 50)

  it('fills new room whole, and makes it part of the image only then', async () => {
    const { disk, calls, file } = await writable(Array(4).fill('unallocated'), { base })
    const start = alignUp(file.size, clusterSize)
    await disk.write?.(700, pattern(500))
    // The test's format fills new room with garbage first.
    const [garbage, data, table, ...more] = writes(calls)
    expect(more).toEqual([])
    expect(garbage).toMatchObject({ offset: start, length: 2 * clusterSize })
    expect(data).toMatchObject({ offset: start, length: 2 * clusterSize })
    expect(table).toMatchObject({ offset: toyFile.headerBytes + toyFile.entryBytes, length: 32 })
    expectBytes(await readAll(disk), join(base.subarray(0, 700), pattern(500), base.subarray(1200)))
  })

  it('reads nothing where whole clusters are written', async () => {
    const { disk, calls } = await writable(Array(4).fill('unallocated'), { base })
    await disk.write?.(512, pattern(1024))
    expect(calls.filter(({ op }) => op === 'read')).toEqual([])
  })

  it('writes into room that is there as it is', async () => {
    const { disk, calls, file } = await writable([pattern(clusterSize), pattern(clusterSize, 2)])
    const size = file.size
    await disk.write?.(500, pattern(20, 9))
    expect(writes(calls)).toEqual([{ op: 'write', offset: 1024 + 500, length: 20 }])
    expect(file.size).toBe(size)
  })

  it('leaves the image as it was where the data cannot be written', async () => {
    const full = new Error('no space')
    let broken = false
    const { disk, calls, file } = await writable(
      ['unallocated', 'zero', pattern(clusterSize), 'unallocated'],
      {
        base,
        before(call) {
          if (broken && call.op === 'write' && call.length === clusterSize && writes(calls).length > 1)
            throw full
        },
      },
    )
    const before = await readAll(disk)
    const table = file.bytes().slice(0, 1024)
    broken = true
    await expect(disk.write?.(100, pattern(300))).rejects.toBe(full)
    broken = false
    expectBytes(file.bytes().subarray(0, 1024), table)
    expectBytes(await readAll(disk), before)
    await disk.write?.(100, pattern(300))
    expectBytes(await readAll(disk), join(before.subarray(0, 100), pattern(300), before.subarray(400)))
  })

  it('leaves, cut off at any write, every byte as it was or as it was to be', async () => {
    const place = fc.nat(4 * clusterSize)
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom('write', 'writeZeroes', 'discard'), place, place), {
          maxLength: 6,
        }),
        async (changes) => {
          const cuts: Uint8Array[] = []
          const { disk, file } = await writable(['unallocated', 'zero', 'reserved', 'unallocated'], {
            base,
            before: ({ op }) => {
              if (op === 'write') cuts.push(file.bytes().slice())
            },
          })
          for (const [seed, [op, a, b]] of changes.entries()) {
            const [start, end] = [Math.min(a, b), Math.max(a, b)]
            const before = await readAll(disk)
            cuts.length = 0
            if (op === 'write') await disk.write?.(start, pattern(end - start, seed))
            else if (op === 'writeZeroes') await disk.writeZeroes?.(start, end - start)
            else await disk.discard?.(start, end - start)
            const after = await readAll(disk)
            for (const cut of cuts) {
              const references = referencesFrom({ base: memoryStorage(base.slice()) })
              const rest = await readAll(
                await openImage(memoryStorage(cut), { registry, format: toy, references }),
              )
              const strange = rest.findIndex((byte, i) => byte !== before[i] && byte !== after[i])
              expect(strange).toBe(-1)
            }
          }
        },
      ),
      { numRuns: 60 },
    )
  })
})

describe('writing zeros', () => {
  it('takes room for nothing that reads as zeros already', async () => {
    const { disk, calls } = await writable([
      'unallocated',
      'zero',
      new Uint8Array(clusterSize),
      'unallocated',
    ])
    await disk.writeZeroes?.(10, 500)
    await disk.writeZeroes?.(1030, 100)
    await disk.writeZeroes?.(1536, 1)
    expect(writes(calls)).toEqual([])
  })

  it('marks whole clusters, the cut one at the end of the disk among them', async () => {
    const { disk, calls, file } = await writable([pattern(512), pattern(512, 2), pattern(512, 3)], {
      size: 1400,
    })
    const size = file.size
    await disk.writeZeroes?.(400, 1000)
    expectBytes(await readAll(disk), join(pattern(400), new Uint8Array(1000)))
    expect(writes(calls)).toHaveLength(2)
    expect(file.size).toBe(size)
  })

  it('writes them where the format cannot say zero', async () => {
    const file = memoryStorage(pattern(200_000))
    const disk = await openImage(file, { registry, format: 'raw', writable: true })
    await disk.writeZeroes?.(1000, 150_000)
    expectBytes(
      file.bytes(),
      join(pattern(200_000).subarray(0, 1000), new Uint8Array(150_000), pattern(200_000).subarray(151_000)),
    )
    expect(disk.discard).toBeUndefined()
  })
})

describe('changes at once', () => {
  it('are done in the order they were asked for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({ at: fc.nat(4000), length: fc.nat(1500), seed: fc.nat(200), zero: fc.boolean() }),
          { minLength: 2, maxLength: 10 },
        ),
        fc.nat(),
        async (changes, seed) => {
          const base = pattern(4096, 77)
          const { disk } = await writable(Array(11).fill('unallocated'), { base, before: jitter(seed) })
          const model = new Uint8Array(11 * clusterSize)
          model.set(base)
          const before = model.slice()
          const seen: { start: number; bytes: Uint8Array }[] = []
          const all: Promise<unknown>[] = []
          for (const { at, length, seed: content, zero } of changes) {
            const bytes = zero ? new Uint8Array(length) : pattern(length, content)
            all.push((zero ? disk.writeZeroes?.(at, length) : disk.write?.(at, bytes)) as Promise<void>)
            model.set(bytes, at)
            const into = new Uint8Array(800)
            all.push(disk.read(at, into).then(() => seen.push({ start: at, bytes: into })))
          }
          await Promise.all(all)
          expectBytes(await readAll(disk), model)
          // A reader sees each byte as it was or as one of the changes made it.
          for (const { start, bytes } of seen) {
            bytes.forEach((byte, i) => {
              const at = start + i
              const known =
                byte === before[at] ||
                changes.some(({ at: from, length, seed: content, zero }) =>
                  at >= from && at < from + length
                    ? byte === (zero ? 0 : pattern(length, content)[at - from])
                    : false,
                )
              if (!known) expect.fail(`byte ${at} was read as ${byte}, which nobody wrote`)
            })
          }
        },
      ),
      { numRuns: 25 },
    )
  })

  it('go on after one that failed', async () => {
    const { disk } = await writable(['unallocated', 'unallocated'])
    const results = await Promise.allSettled([
      disk.write?.(0, pattern(100)),
      disk.write?.(1000, pattern(100)),
      disk.write?.(100, pattern(100, 2)),
    ])
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expectBytes((await readAll(disk)).subarray(0, 200), join(pattern(100), pattern(100, 2)))
  })
})

describe('refusals', () => {
  it('a disk that was not opened for writing has nothing that writes', async () => {
    const file = memoryStorage()
    await buildToy(file, ['zero'], { clusterSize })
    const disk = await openImage(file, { format: toy })
    for (const name of ['write', 'writeZeroes', 'discard', 'resize', 'flush'] as const)
      expect(disk[name]).toBeUndefined()
  })

  it('ranges that are not within the disk', async () => {
    const { disk, calls } = await writable(['zero'], { size: 500 })
    await expect(disk.write?.(499, pattern(2))).rejects.toThrow(RangeError)
    await expect(disk.writeZeroes?.(-1, 1)).rejects.toThrow(RangeError)
    await expect(disk.discard?.(0, 501)).rejects.toThrow(RangeError)
    await disk.write?.(500, new Uint8Array(0))
    expect(writes(calls)).toEqual([])
  })

  it('a driver that gives room in a storage that can only be read', async () => {
    const file = memoryStorage(new Uint8Array(1024))
    const other = readOnlyStorage(file)
    const format: Format = {
      ...flat,
      open: async () => ({
        size: 1024,
        map: {
          clusterSize: 1,
          lookup: (hostOffset, length) => ({ kind: 'data', length, storage: other, hostOffset }),
          allocate: (hostOffset, length) => ({ storage: other, hostOffset, length }),
        },
        info: () => ({}),
      }),
    }
    const disk = await openImage(file, { format, writable: true })
    await expectCode(() => disk.write?.(0, pattern(5)), 'IMG_READ_ONLY')
  })

  it('an aborted change is not begun, and one under way ends between two allocations', async () => {
    const reason = new Error('enough')
    const control = new AbortController()
    const { disk, calls } = await writable(Array(12).fill('unallocated'), {
      before({ op, offset }) {
        if (op === 'write' && offset < 1024) control.abort(reason)
      },
    })
    await expect(disk.write?.(0, pattern(10), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(writes(calls)).toEqual([])
    await expect(disk.write?.(0, pattern(12 * 512), { signal: control.signal })).rejects.toBe(reason)
    // The first three clusters are whole, the rest as it was.
    expectBytes(await readAll(disk), join(pattern(12 * 512).subarray(0, 1536), new Uint8Array(9 * 512)))
  })
})
