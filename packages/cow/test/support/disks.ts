import { createHash } from 'node:crypto'
import {
  type BlockDevice,
  createImage,
  createRegistry,
  type DiskImage,
  type OpenOptions,
  openImage,
  type Storage,
} from '@img/core'
import { cow } from '../../src/format.js'
import { raw } from './raw.js'
import { MemoryStorage } from './storage.js'

export const registry = createRegistry([cow, raw])

/** Numbers from 0 up to below 1, always the same. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

export async function digest(device: BlockDevice, offset = 0, length: number = device.size): Promise<string> {
  const hash = createHash('sha256')
  const step = 1 << 20
  for (let at = offset; at < offset + length; at += step) {
    const bytes = new Uint8Array(Math.min(step, offset + length - at))
    await device.read(at, bytes)
    hash.update(bytes)
  }
  return hash.digest('hex')
}

/** All bytes of a disk. */
export async function content(image: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size)
  await image.read(0, bytes)
  return bytes
}

export function open(storage: Storage, options: OpenOptions = {}): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'cow', ...options })
}

/** An empty image in memory. */
export async function empty(size: number, options: Record<string, unknown> = {}): Promise<MemoryStorage> {
  const target = new MemoryStorage()
  await createImage(cow, target, { size, options })
  return target
}
