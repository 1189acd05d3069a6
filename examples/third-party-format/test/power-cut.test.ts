import { memoryStorage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { content, copy, create, type Files, open, pattern } from './support/images.js'
import { Recorder } from './support/recorder.js'
import { smallBlocks } from './support/small-blocks.js'

const size = 139_264

type Step =
  | {
      readonly kind: 'write' | 'writeZeroes' | 'discard'
      readonly offset: number
      readonly length: number
      readonly seed: number
    }
  | { readonly kind: 'flush' }
  | { readonly kind: 'resize'; readonly by: number }

const change = fc
  .tuple(
    fc.constantFrom('write', 'write', 'writeZeroes', 'discard'),
    fc.nat(size - 1),
    fc.integer({ min: 1, max: 30_000 }),
    fc.nat(200),
  )
  .map(
    ([kind, offset, length, seed]) =>
      ({ kind, offset, length: Math.min(length, size - offset), seed }) as Step,
  )
const anySteps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: change },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: 'flush' }) },
    {
      weight: 1,
      arbitrary: fc
        .integer({ min: 1, max: 200 })
        .map((sectors): Step => ({ kind: 'resize', by: sectors * 512 })),
    },
  ),
  { minLength: 3, maxLength: 14 },
)

/** What the guest saw after a step, and how many flushes of the storage had been by then. */
interface Moment {
  readonly content: Uint8Array
  readonly flushes: number
  /** The step was a flush: what it showed is to stay. */
  readonly safe: boolean
}

/** Every byte has to be what it was at the last flush before the cut, or what a later step made it. */
function check(read: Uint8Array, epoch: number, moments: readonly Moment[]): void {
  const last = moments.findLastIndex(({ safe, flushes }) => safe && flushes <= epoch)
  const after = moments.findIndex(({ flushes }, i) => i > last && flushes > epoch)
  const possible = moments.slice(last, after < 0 ? undefined : after + 1).map(({ content: bytes }) => bytes)
  if (possible.some((bytes) => Buffer.compare(bytes, read) === 0)) return
  for (let at = 0; at < read.length; at++) {
    const byte = read[at]
    if (!possible.some((bytes) => (bytes[at] ?? 0) === byte)) {
      throw new Error(
        `byte ${at} is ${byte} after a cut, it was ${possible.map((bytes) => bytes[at]).join(', then ')}`,
      )
    }
  }
}

async function play(
  files: Files,
  make: () => ReturnType<typeof create>,
  steps: readonly Step[],
  seed: number,
): Promise<void> {
  const recorder = new Recorder(await make())
  const disk = await open(recorder.storage, { writable: true, files })
  const moments: Moment[] = []
  const note = async (safe: boolean): Promise<void> => {
    moments.push({ content: await content(disk), flushes: recorder.flushes, safe })
  }
  await note(true)
  for (const step of steps) {
    if (step.kind === 'write') await disk.write?.(step.offset, pattern(step.length, step.seed))
    else if (step.kind === 'writeZeroes') await disk.writeZeroes?.(step.offset, step.length)
    else if (step.kind === 'discard') await disk.discard?.(step.offset, step.length)
    else if (step.kind === 'resize') await disk.resize?.(disk.size + step.by)
    else await disk.flush?.()
    await note(step.kind === 'flush')
  }
  await disk.flush?.()
  await note(true)
  let state = seed
  const keeps = (odds: number) => (): boolean => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 16) % 100 < odds
  }
  for (let epoch = 0; epoch <= recorder.flushes; epoch++) {
    for (const odds of [0, 50, 100]) {
      const file = recorder.cut(epoch, keeps(odds))
      const storage = memoryStorage(file)
      // Writing it on has to leave the rest as it is.
      const image = await open(storage, { files, writable: true })
      const read = await content(image)
      check(read, epoch, moments)
      await image.write?.(5000, pattern(100, 9))
      await image.close()
      read.set(pattern(100, 9), 5000)
      expect(Buffer.compare(await content(await open(copy(storage), { files })), read)).toBe(0)
    }
  }
}

describe('a power cut at any moment', () => {
  it.each([
    ['dynamic, blocks of 2 MiB', () => create(size)],
    ['dynamic, blocks of 8 KiB', () => smallBlocks(size, 8192, {}, {})],
    ['dynamic, blocks of 512 bytes', () => smallBlocks(size, 512, {}, {})],
  ])('%s: it opens, and holds all that was flushed', async (_, make) => {
    await fc.assert(
      fc.asyncProperty(anySteps, fc.nat(), (steps, seed) => play({}, make, steps, seed)),
      { numRuns: 15 },
    )
  })

  it.each([
    ['blocks of 2 MiB', undefined],
    ['blocks of 8 KiB', 8192],
  ])('differencing, %s: what is lost shows the parent', async (_, blockSize) => {
    const base = await create(size)
    const image = await open(base, { writable: true })
    await image.write?.(0, pattern(size, 77))
    await image.close()
    const files = { 'base.vhd': copy(base) }
    const options = { backing_file: 'base.vhd' }
    const make = () =>
      blockSize === undefined ? create(size, options, files) : smallBlocks(size, blockSize, options, files)
    await fc.assert(
      fc.asyncProperty(anySteps, fc.nat(), (steps, seed) => play(files, make, steps, seed)),
      { numRuns: 15 },
    )
  })
})
