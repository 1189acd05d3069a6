import { ImageError } from './errors.js'
import { maxHead, maxTail, type ProbeOptions, probeFormat } from './probe.js'
import { sliceStorage } from './storage/slice.js'
import type { IoOptions, Storage, WritableStorage, ZeroOptions } from './storage.js'
import { zeroBlock } from './zero.js'

/**
 * A disk that is raw only because nobody recognises it, to be written. What would make a format recognise it is refused: or else the
 * guest, whose bytes these are, could choose how the disk is opened the next time, and what that opens with it.
 * QEMU does the same for the first sector (block/raw-format.c).
 */
export function guessedRaw(storage: WritableStorage, options: ProbeOptions): WritableStorage {
  const check = async (offset: number, bytes: (at: number, into: Uint8Array) => void, length: number) => {
    const size = Math.max(storage.size, offset + length)
    if (offset >= maxHead && offset + length <= size - maxTail) return
    await refuseFormat(storage, size, { offset, length, bytes }, options)
  }
  const over = {
    async write(offset: number, bytes: Uint8Array, io?: IoOptions): Promise<void> {
      await check(offset, (at, into) => into.set(bytes.subarray(at, at + into.length)), bytes.length)
      await storage.write(offset, bytes, io)
    },
    async writeZeroes(offset: number, length: number, io?: ZeroOptions): Promise<void> {
      await check(offset, (_, into) => into.fill(0), length)
      if (storage.writeZeroes) return storage.writeZeroes(offset, length, io)
      for (let at = 0; at < length; at += zeroBlock.length) {
        await storage.write(offset + at, zeroBlock.subarray(0, Math.min(zeroBlock.length, length - at)), io)
      }
    },
    slice(offset: number, length?: number): Storage {
      return sliceStorage(guarded, offset, length)
    },
    // What would go around `write`.
    writeSync: undefined,
    discard: undefined,
  }
  const guarded: WritableStorage = new Proxy(storage, {
    get(target, key) {
      if (key in over) return over[key as keyof typeof over]
      // Not the descriptor beneath, either.
      if (typeof key === 'symbol' && key !== Symbol.asyncDispose) return undefined
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  return guarded
}

/** Bytes that are about to be written. `bytes` fills an array with those from one of them on. */
interface Change {
  readonly offset: number
  readonly length: number
  readonly bytes: (at: number, into: Uint8Array) => void
}

async function refuseFormat(
  storage: Storage,
  size: number,
  change: Change,
  options: ProbeOptions,
): Promise<void> {
  const then = {
    label: storage.label,
    size,
    async read(offset: number, into: Uint8Array, io?: IoOptions): Promise<void> {
      const there = Math.max(0, Math.min(into.length, storage.size - offset))
      if (there > 0) await storage.read(offset, into.subarray(0, there), io)
      into.fill(0, there)
      const start = Math.max(offset, change.offset)
      const end = Math.min(offset + into.length, change.offset + change.length)
      if (end > start) change.bytes(start - change.offset, into.subarray(start - offset, end - offset))
    },
  } as Storage
  let name: string | undefined
  try {
    name = (await probeFormat(then, options))?.name
  } catch (error) {
    if (!ImageError.is(error, 'IMG_AMBIGUOUS_FORMAT') && !ImageError.is(error, 'IMG_PLUGIN_MISSING'))
      throw error
    name = 'another format'
  }
  if (name === undefined) return
  throw new ImageError(
    'IMG_UNSUPPORTED',
    `${storage.label} was only guessed to be raw, and what is to be written would make it look like ${name}`,
    {
      source: storage.label,
      offset: change.offset,
      hint: 'if that is meant, convert the image with its backing file to a new raw one',
    },
  )
}
