import { describe, expect, it } from 'vitest'
import type { MaybePromise } from '../src/bytes.js'
import { type Driver, defineFormat, type OpenContext } from '../src/format.js'
import type { DiskImage } from '../src/image.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { memoryStorage } from '../src/storage/memory.js'
import type { Storage } from '../src/storage.js'
import { expectCode } from './storage-contract.js'
import { pattern } from './support/disks.js'
import { hookedStorage } from './support/hooked-storage.js'

/** Storage whose reads wait until they are let through. */
function gated(): { storage: Storage; open(): void } {
  let open: () => void = () => undefined
  const passed = new Promise<void>((resolve) => {
    open = resolve
  })
  const before = ({ op }: { op: string }): MaybePromise<void> => (op === 'read' ? passed : undefined)
  return { storage: hookedStorage(memoryStorage(pattern(1024)), { before }), open: () => open() }
}

/** A plain format that keeps what it was opened with, and has snapshots. */
function plain(name: string, backing?: string) {
  const contexts: OpenContext[] = []
  const names = ['one', 'two']
  const driverOf = (storage: Storage): Driver => ({
    size: 1024,
    map: {
      clusterSize: 512,
      lookup: (offset, length) =>
        backing === undefined
          ? { kind: 'data', length, storage, hostOffset: offset }
          : { kind: 'unallocated', length },
    },
    ...(backing !== undefined && { backing: { kind: 'backing', name: backing, format: 'lower' } as const }),
    info: () => ({}),
    compact: async () => undefined,
    snapshots: {
      list: () =>
        names.map((each, i) => ({
          id: `${i + 1}`,
          name: each,
          vmStateSize: 0,
          date: { seconds: 0, nanoseconds: 0 },
          vmClock: { seconds: 0, nanoseconds: 0 },
          virtualSize: 1024,
        })),
      open: async () => driverOf(storage),
      delete: async () => undefined,
    },
  })
  const format = defineFormat({
    apiVersion: 1,
    name,
    title: name,
    extensions: [],
    magic: [],
    async open(storage, context) {
      contexts.push(context)
      return driverOf(storage)
    },
  })
  return { format, contexts }
}

async function ended(wait: unknown): Promise<boolean> {
  return Promise.race([
    Promise.resolve(wait).then(() => true),
    new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 5)),
  ])
}

describe('reads that wait, and the driver that is to give room back', () => {
  it('ends its waiting with the reads that were under way', async () => {
    const gate = gated()
    const { format, contexts } = plain('toy-reads')
    const disk = await openImage(gate.storage, { format })
    const [context] = contexts
    expect(context?.readsEnded?.()).toBeUndefined()
    const into = new Uint8Array(100)
    const read = disk.read(10, into)
    const wait = context?.readsEnded?.()
    expect(await ended(wait)).toBe(false)
    gate.open()
    await read
    expect(await ended(wait)).toBe(true)
    expect(context?.readsEnded?.()).toBeUndefined()
    expect(into).toEqual(pattern(1024).subarray(10, 110))
  })

  it('counts no read that is answered at once, and one that fails only as long as it lasts', async () => {
    const { format, contexts } = plain('toy-reads')
    const disk = await openImage(memoryStorage(pattern(1024)), { format })
    const read = disk.read(0, new Uint8Array(512))
    expect(contexts[0]?.readsEnded?.()).toBeUndefined()
    await read
    const before = async ({ op }: { op: string }): Promise<void> => {
      if (op === 'read') throw new Error('broken')
    }
    const failing = await openImage(hookedStorage(memoryStorage(pattern(1024)), { before }), { format })
    const failed = failing.read(0, new Uint8Array(512))
    const wait = contexts[1]?.readsEnded?.()
    expect(wait).toBeInstanceOf(Promise)
    await expect(failed).rejects.toThrow('broken')
    await wait
    expect(contexts[1]?.readsEnded?.()).toBeUndefined()
  })

  it('tells the driver of a backing file of the reads of its overlay, and that of an image of its snapshots', async () => {
    const gate = gated()
    const lower = plain('lower')
    const upper = plain('upper', 'base')
    const disk = await openImage(memoryStorage(new Uint8Array(1024)), {
      format: upper.format,
      references: {
        async open() {
          return { storage: gate.storage, format: undefined }
        },
      },
      registry: { load: async () => lower.format } as never,
    })
    const read = disk.read(0, new Uint8Array(512))
    expect(await ended(lower.contexts[0]?.readsEnded?.())).toBe(false)
    const snapshot = (await disk.snapshots?.open('one')) as DiskImage
    const second = snapshot.read(0, new Uint8Array(512))
    const wait = upper.contexts[0]?.readsEnded?.()
    expect(await ended(wait)).toBe(false)
    gate.open()
    await Promise.all([read, second, wait])
    expect(lower.contexts[0]?.readsEnded?.()).toBeUndefined()
  })
})

describe('a snapshot that is open', () => {
  it('is not deleted or moved under who reads it', async () => {
    const { format } = plain('toy-reads')
    const disk = await openImage(memoryStorage(pattern(1024)), {
      format,
      writable: true,
      references: referencesFrom({}),
    })
    const one = (await disk.snapshots?.open('one')) as DiskImage
    const again = (await one.snapshots?.open('1')) as DiskImage
    await expectCode(() => disk.snapshots?.delete?.('1'), 'IMG_LOCKED')
    await expectCode(() => disk.compact?.(), 'IMG_LOCKED')
    await disk.snapshots?.delete?.('two')
    await one.close()
    await expectCode(() => disk.snapshots?.delete?.('one'), 'IMG_LOCKED')
    await again.close()
    await again.close()
    await disk.compact?.()
    await disk.snapshots?.delete?.('one')
  })
})
