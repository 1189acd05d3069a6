import { createImage, type DiskImage, openImage } from '@img/core'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { registry } from './support/disks.js'

const CLUSTER = 65536

/** Storage that does nothing at once, and whose reads can be held up before they take anything. */
class HeldStorage extends MemoryStorage {
  /** What reads wait for. */
  gate: Promise<void> = Promise.resolve()
  /** Reads that wait, or have waited. */
  held = 0

  constructor() {
    super(new Uint8Array(0), { async: true })
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    this.held++
    await this.gate
    await super.read(offset, into)
  }

  /** Holds reads up from here on. Returns what lets them go on. */
  hold(): () => void {
    let open: () => void = () => undefined
    this.gate = new Promise((resolve) => {
      open = resolve
    })
    this.held = 0
    return open
  }
}

async function disk(): Promise<{ storage: HeldStorage; image: DiskImage }> {
  const storage = new HeldStorage()
  await createImage(qcow2, storage, { size: 16 * CLUSTER, options: { compat: '1.1' } })
  return { storage, image: await openImage(storage, { registry, format: 'qcow2', writable: true }) }
}

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

describe('a read that is under way while its cluster is given back', () => {
  it('never sees what another guest cluster has there next', async () => {
    const { storage, image } = await disk()
    await image.write?.(0, new Uint8Array(CLUSTER).fill(1))
    await image.flush?.()
    const release = storage.hold()
    const into = new Uint8Array(CLUSTER)
    const read = image.read(0, into)
    expect(storage.held).toBe(1)
    storage.gate = Promise.resolve()
    const changes = [
      image.discard?.(0, CLUSTER),
      image.flush?.(),
      image.write?.(5 * CLUSTER, new Uint8Array(CLUSTER).fill(2)),
      image.flush?.(),
    ]
    await turns(50)
    release()
    await Promise.all([read, ...changes])
    expect(new Set(into)).toEqual(new Set([1]))
    await image.read(0, into)
    expect(new Set(into)).toEqual(new Set([0]))
    await image.read(5 * CLUSTER, into)
    expect(new Set(into)).toEqual(new Set([2]))
    await image.close()
  })

  it('does not hold up changes that give nothing back', async () => {
    const { storage, image } = await disk()
    await image.write?.(0, new Uint8Array(CLUSTER).fill(1))
    await image.flush?.()
    const release = storage.hold()
    const into = new Uint8Array(CLUSTER)
    const read = image.read(0, into)
    storage.gate = Promise.resolve()
    await image.write?.(5 * CLUSTER, new Uint8Array(CLUSTER).fill(2))
    await image.flush?.()
    release()
    await read
    expect(new Set(into)).toEqual(new Set([1]))
    await image.close()
  })
})
