import { type MemoryStorage, memoryStorage, type WritableStorage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { content, copy, create, type Files, open, pattern } from './support/images.js'
import { smallBlocks } from './support/small-blocks.js'

const size = 139_264 // 8 cylinders of 4 heads and 17 sectors
const parent = pattern(size, 77)

async function parentFile(): Promise<Uint8Array> {
  const target = await create(size)
  const image = await open(target, { writable: true })
  await image.write?.(0, parent)
  await image.close()
  return copy(target)
}

type Step =
  | { readonly kind: 'write'; readonly offset: number; readonly length: number; readonly seed: number }
  | {
      readonly kind: 'writeZeroes' | 'discard'
      readonly offset: number
      readonly length: number
      readonly unmap: boolean
    }
  | { readonly kind: 'flush' | 'reopen' }

const range = fc.tuple(fc.nat(size), fc.nat(Math.floor(size / 3))).map(([at, length]) => {
  const offset = Math.min(at, size)
  return { offset, length: Math.min(length, size - offset) }
})
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(range, fc.nat(250))
      .map(([where, seed]) => ({ kind: 'write' as const, ...where, seed })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(range, fc.constantFrom('writeZeroes' as const, 'discard' as const), fc.boolean())
      .map(([where, kind, unmap]) => ({ kind, ...where, unmap })),
  },
  { weight: 1, arbitrary: fc.constantFrom({ kind: 'flush' as const }, { kind: 'reopen' as const }) },
)

/** A storage without what is optional: no holes, nothing at once. */
function plain(storage: MemoryStorage): WritableStorage {
  return {
    label: storage.label,
    get size() {
      return storage.size
    },
    read: (offset, into) => storage.read(offset, into),
    write: (offset, bytes) => storage.write(offset, bytes),
    truncate: (length) => storage.truncate(length),
    flush: async () => {},
    slice: (offset, length) => storage.slice(offset, length),
    close: async () => {},
    [Symbol.asyncDispose]: async () => {},
  }
}

async function play(
  make: () => Promise<MemoryStorage>,
  initial: Uint8Array,
  files: Files,
  steps: readonly Step[],
  bare: boolean,
): Promise<void> {
  let storage = await make()
  const model = initial.slice()
  const reopen = () => open(bare ? plain(storage) : storage, { writable: true, files })
  let disk = await reopen()
  for (const action of steps) {
    if (action.kind === 'write') {
      const bytes = pattern(action.length, action.seed)
      await disk.write?.(action.offset, bytes)
      model.set(bytes, action.offset)
    } else if (action.kind === 'writeZeroes') {
      await disk.writeZeroes?.(action.offset, action.length, { unmap: action.unmap })
      model.fill(0, action.offset, action.offset + action.length)
    } else if (action.kind === 'discard') {
      if (disk.discard === undefined) continue
      const before = await content(disk)
      await disk.discard(action.offset, action.length)
      // What was given up is zero or as before; the rest is untouched.
      const after = await content(disk)
      for (let at = action.offset; at < action.offset + action.length; at++) {
        if (after[at] !== 0 && after[at] !== before[at]) throw new Error(`byte ${at} changed to ${after[at]}`)
      }
      model.set(after.subarray(action.offset, action.offset + action.length), action.offset)
    } else if (action.kind === 'flush') await disk.flush?.()
    else {
      await disk.close()
      storage = memoryStorage(copy(storage), { label: 'disk.vhd' })
      disk = await reopen()
    }
    expect(Buffer.compare(await content(disk), model)).toBe(0)
  }
  await disk.close()
  const last = await open(copy(storage), { files })
  expect(Buffer.compare(await content(last), model)).toBe(0)
}

describe('against a plain array', () => {
  const empty = new Uint8Array(size)
  it.each([
    ['fixed', () => create(size, { subformat: 'fixed' }), empty, {}],
    ['dynamic', () => create(size), empty, {}],
    ['dynamic, blocks of 512 bytes', () => smallBlocks(size, 512, {}, {}), empty, {}],
    ['dynamic, blocks of 8 KiB', () => smallBlocks(size, 8192, {}, {}), empty, {}],
  ] as const)('%s', async (_, make, initial, files) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, bare) =>
        play(make, initial, files, steps, bare),
      ),
      { numRuns: 40 },
    )
  })

  it.each([
    ['blocks of 2 MiB', undefined],
    ['blocks of 8 KiB', 8192],
  ])('differencing, %s', async (_, blockSize) => {
    const files = { 'base.vhd': await parentFile() }
    const options = { backing_file: 'base.vhd' }
    const make = () =>
      blockSize === undefined ? create(size, options, files) : smallBlocks(size, blockSize, options, files)
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, bare) =>
        play(make, parent, files, steps, bare),
      ),
      { numRuns: 40 },
    )
  })

  it.each([
    ['that makes holes', false],
    ['that cannot', true],
  ])('rooms given up are used again in a storage %s, and nothing of old shows', async (_, bare) => {
    const storage = await smallBlocks(size, 8192, {}, {})
    const disk = await open(bare ? plain(storage) : storage, { writable: true })
    await disk.write?.(0, pattern(size, 1))
    await disk.flush?.()
    const full = storage.size
    for (let round = 0; round < 5; round++) {
      await disk.discard?.(0, size)
      await disk.flush?.()
      for (let at = 0; at < size; at += 8192) await disk.write?.(at + 1000, pattern(10, round))
      await disk.flush?.()
    }
    expect(storage.size).toBe(full)
    const model = new Uint8Array(size)
    for (let at = 0; at < size; at += 8192) model.set(pattern(10, 4), at + 1000)
    expect(Buffer.compare(await content(disk), model)).toBe(0)
    await disk.close()
    expect(Buffer.compare(await content(await open(copy(storage))), model)).toBe(0)
    // Both footers are still there.
    const warnings: string[] = []
    await open(copy(storage), { onWarning: (message) => warnings.push(message) })
    expect(warnings).toEqual([])
  })
})
