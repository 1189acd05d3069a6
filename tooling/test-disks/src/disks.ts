import { createHash } from 'node:crypto'
import {
  type BlockDevice,
  createImage,
  createRegistry,
  type DiskImage,
  type Format,
  type FormatRegistry,
  type OpenOptions,
  openImage,
  type Storage,
} from '@img/core'
import { raw } from './raw.js'
import { MemoryStorage } from './storage.js'

/** Numbers from 0 up to below 1, always the same. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** A disk with holes, text-like and incompressible parts, in runs of up to `longest` bytes. */
export function patternDisk(size: number, seed = 1, longest = 200_000): Uint8Array {
  const next = random(seed)
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; ) {
    const length = Math.min(size - at, 1 + Math.floor(next() * longest))
    const kind = next()
    if (kind < 0.35) {
      for (let i = at; i < at + length; i++) bytes[i] = Math.floor(next() * 256)
    } else if (kind < 0.7) {
      const letter = 97 + Math.floor(next() * 20)
      for (let i = at; i < at + length; i++) bytes[i] = letter + (i % 7)
    }
    at += length
  }
  return bytes
}

/** SHA-256 of a part of a disk, all of it by default, read in pieces. */
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
export async function content(image: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size)
  await image.read(0, bytes)
  return bytes
}

/** What the tests of a format open and make images with. */
export interface TestDisks {
  /** The format, and raw for backing files. */
  readonly registry: FormatRegistry
  open(storage: Storage, options?: OpenOptions): Promise<DiskImage>
  /** Makes an empty image in memory. */
  empty(size: number, options?: Record<string, unknown>): Promise<MemoryStorage>
}

/** Disks of one format. */
export function disksOf(format: Format): TestDisks {
  const registry = createRegistry([format, raw])
  return {
    registry,
    open: (storage, options) => openImage(storage, { registry, format: format.name, ...options }),
    async empty(size, options = {}) {
      const target = new MemoryStorage()
      await createImage(format, target, { size, options })
      return target
    },
  }
}

/** A raw disk in memory. */
export function openRaw(bytes: Uint8Array): Promise<DiskImage> {
  return openImage(new MemoryStorage(bytes), { registry: createRegistry([raw]), format: 'raw' })
}
