import { createRegistry, type DiskImage, openImage, type ReferenceResolver, type Storage } from '@img/core'
import { vmdk } from '../../src/format.js'
import { raw } from './raw.js'
import { MemoryStorage } from './storage.js'

export const registry = createRegistry([vmdk, raw])

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

export function openRaw(bytes: Uint8Array): Promise<DiskImage> {
  return openImage(new MemoryStorage(bytes), { registry, format: 'raw' })
}

export function openVmdk(storage: Storage, references?: ReferenceResolver): Promise<DiskImage> {
  return openImage(storage, { registry, format: 'vmdk', references })
}

/** All bytes of a disk. */
export async function content(image: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size)
  await image.read(0, bytes)
  return bytes
}
