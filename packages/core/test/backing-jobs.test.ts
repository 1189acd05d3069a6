import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import type { DiskImage } from '../src/image.js'
import { commit } from '../src/jobs/commit.js'
import { rebase } from '../src/jobs/rebase.js'
import { type OpenOptions, openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import type { Storage } from '../src/storage.js'
import { pattern, readAll } from './support/disks.js'
import { hookedStorage } from './support/hooked-storage.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const unit = 4096
const hooked = (identity: string, file: MemoryStorage): Storage =>
  hookedStorage(file, { keepOpen: true, identity })
const registry = createRegistry([toy])

/** Files by name; opening one leaves it there. */
class Files {
  readonly #files = new Map<string, MemoryStorage>()

  async add(name: string, clusters: readonly ToyCluster[], backing?: string, size?: number): Promise<void> {
    const file = memoryStorage()
    const options = { clusterSize: unit, ...(backing && { backing }), ...(size && { size }) }
    await buildToy(file, clusters, options)
    this.#files.set(name, file)
  }

  open(name: string, options: OpenOptions = {}): Promise<DiskImage> {
    const entries = [...this.#files].map(([key, file]) => [key, () => hooked(key, file)] as const)
    return openImage(hooked(name, this.#files.get(name) as MemoryStorage), {
      registry,
      references: referencesFrom(Object.fromEntries(entries)),
      ...options,
    })
  }

  async content(name: string): Promise<Uint8Array> {
    const disk = await this.open(name)
    return readAll(disk)
  }
}

const data = (seed: number): Uint8Array => pattern(unit, seed)

async function packed(seed: number): Promise<{ packed: Uint8Array }> {
  return { packed: await compressHere(new Uint8Array(unit).fill(seed), { codec: 'zlib' }) }
}

async function threeLayers(): Promise<Files> {
  const files = new Files()
  await files.add('base', [data(1), data(2), data(3), data(4)])
  await files.add('mid', ['unallocated', data(5), 'zero', 'unallocated', 'unallocated', data(6)], 'base')
  await files.add(
    'top',
    [
      'unallocated',
      'unallocated',
      'unallocated',
      await packed(9),
      'unallocated',
      'unallocated',
      'zero',
      data(8),
      'unallocated',
    ],
    'mid',
    9 * unit - 1000,
  )
  return files
}

describe('commit', () => {
  it.each([1, 2])(
    'writes into the layer %i below, made as large, and leaves the disk what it was',
    async (depth) => {
      const files = await threeLayers()
      const before = await files.content('top')
      const top = await files.open('top', {
        writable: true,
        writableBacking: (layer) => layer.depth === depth,
      })
      const base = depth === 1 ? top.backing : top.backing?.backing
      const phases = new Set<string>()
      const result = await commit(top, { base, onProgress: ({ phase }) => phases.add(phase) })
      expect(result.emptied).toBe(depth === 1)
      expect([...phases]).toEqual(['commit'])
      expect(await readAll(top)).toEqual(before)
      await top.close()
      expect(await files.content(depth === 1 ? 'mid' : 'base')).toEqual(before)
      expect(await files.content('top')).toEqual(before)
    },
  )

  it('keeps what a larger base has behind the end of the image', async () => {
    const files = new Files()
    await files.add('base', [data(1), data(2), data(3)])
    await files.add('top', [data(4)], 'base')
    const top = await files.open('top', { writable: true, writableBacking: () => true })
    expect(await commit(top, { drop: true })).toEqual({ copied: unit, emptied: false })
    await top.close()
    const found = await files.content('base')
    expect(found.subarray(0, unit)).toEqual(data(4))
    expect(found.subarray(unit)).toEqual((await files.content('base')).subarray(unit))
    expect(found.length).toBe(3 * unit)
  })

  it('refuses a base that is not open for writing, or not in the chain, before anything is done', async () => {
    const files = await threeLayers()
    const before = await files.content('mid')
    const top = await files.open('top', { writable: true })
    await expect(commit(top)).rejects.toMatchObject({ code: 'IMG_READ_ONLY' })
    const other = await files.open('mid')
    await expect(commit(top, { base: other })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    await expect(commit(await files.open('base'))).rejects.toThrow('Image does not have a backing file')
    const reading = await files.open('top', { writableBacking: () => true })
    await expect(commit(reading)).rejects.toMatchObject({ code: 'IMG_READ_ONLY' })
    expect(await files.content('mid')).toEqual(before)
  })

  it('can be aborted, the disk being what it was', async () => {
    const files = await threeLayers()
    const before = await files.content('top')
    const top = await files.open('top', { writable: true, writableBacking: () => true })
    const abort = new AbortController()
    const options = { signal: abort.signal, onProgress: () => abort.abort(new Error('enough')) }
    await expect(commit(top, options)).rejects.toThrow('enough')
    await top.close()
    expect(await files.content('top')).toEqual(before)
    await expect(commit(await files.open('top'), { signal: abort.signal })).rejects.toThrow('enough')
  })
})

describe('rebase', () => {
  it.each(['base', 'other', undefined] as const)('keeps what the disk shows above %s', async (name) => {
    const files = await threeLayers()
    await files.add('other', [
      data(1),
      data(2),
      data(7),
      data(4),
      data(4),
      data(4),
      data(4),
      data(4),
      data(4),
    ])
    const before = await files.content('top')
    const top = await files.open('top', { writable: true })
    const backing = name && (await files.open(name))
    const reference = name && ({ kind: 'backing', name } as const)
    await rebase(top, { reference, backing })
    await expect(top.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'IMG_CLOSED' })
    await top.close()
    const again = await files.open('top')
    expect(again.driver.backing?.name).toBe(name)
    expect(await readAll(again)).toEqual(before)
  })

  it('keeps zeros that only the lack of a backing file made', async () => {
    const files = new Files()
    await files.add('base', [data(1), data(2), data(3)])
    await files.add('top', ['unallocated', data(4), 'unallocated'])
    const before = await files.content('top')
    const top = await files.open('top', { writable: true })
    const backing = await files.open('base')
    const result = await rebase(top, { reference: { kind: 'backing', name: 'base' }, backing })
    expect(result.copied).toBe(2 * unit)
    await top.close()
    expect(await files.content('top')).toEqual(before)
  })

  it('copies nothing that is the same', async () => {
    const files = new Files()
    await files.add('base', [data(1), data(2), data(3)])
    await files.add('copy', [data(1), data(9), data(3)])
    await files.add('top', ['unallocated', 'unallocated', 'unallocated'], 'base')
    const top = await files.open('top', { writable: true })
    const backing = await files.open('copy')
    const reference = { kind: 'backing', name: 'copy' } as const
    expect(await rebase(top, { reference, backing })).toEqual({ copied: unit })
    await top.close()
    const [a] = await readExtents(await files.open('top'))
    expect(a).toEqual([
      [0, 1],
      [unit, 0],
      [2 * unit, 1],
    ])
  })

  it('changes the name alone where it is told to', async () => {
    const files = await threeLayers()
    const top = await files.open('top', { writable: true, chain: false })
    const reference = { kind: 'backing', name: 'base' } as const
    await expect(rebase(top, { reference })).rejects.toThrow(TypeError)
    expect(await rebase(top, { reference, unsafe: true })).toEqual({ copied: 0 })
    await top.close()
    expect((await files.open('top')).driver.backing?.name).toBe('base')
    const reading = await files.open('top')
    await expect(rebase(reading, { reference, unsafe: true })).rejects.toMatchObject({
      code: 'IMG_READ_ONLY',
    })
  })
})

async function readExtents(disk: DiskImage): Promise<[number, number][][]> {
  const found: [number, number][] = []
  for await (const { offset, depth } of disk.extents()) found.push([offset, depth])
  return [found]
}

describe('writeCompressed', () => {
  it('writes whole clusters, those that do not shrink as they are', async () => {
    const files = new Files()
    await files.add('disk', ['unallocated', data(2), 'zero', data(4)], undefined, 4 * unit - 100)
    const disk = await files.open('disk', { writable: true })
    const noise = crypto.getRandomValues(new Uint8Array(unit))
    await disk.writeCompressed?.(0, new Uint8Array(2 * unit).fill(7))
    await disk.writeCompressed?.(2 * unit, noise)
    await disk.writeCompressed?.(3 * unit, new Uint8Array(unit - 100).fill(8))
    const kinds: string[] = []
    for await (const { kind } of disk.extents()) kinds.push(kind)
    expect(kinds).toEqual(['compressed', 'compressed', 'data', 'compressed'])
    const found = await readAll(disk)
    expect(found.subarray(0, 2 * unit).every((byte) => byte === 7)).toBe(true)
    expect(found.subarray(2 * unit, 3 * unit)).toEqual(noise)
    expect(found.subarray(3 * unit).every((byte) => byte === 8)).toBe(true)
    for (const [offset, length] of [
      [1, unit],
      [0, unit - 1],
      [3 * unit, unit - 101],
    ] as const) {
      await expect(disk.writeCompressed?.(offset, new Uint8Array(length))).rejects.toThrow(RangeError)
    }
  })
})
