import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import type { Format } from '../src/format.js'
import { compare } from '../src/jobs/compare.js'
import { convert, convertStream } from '../src/jobs/convert.js'
import { createWriter } from '../src/jobs/create.js'
import { streamImage } from '../src/jobs/stream.js'
import { openImage } from '../src/open.js'
import { createRegistry } from '../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import type { StreamPiece } from '../src/streaming.js'
import { converted } from './support/convert.js'
import { deviceOf, flat, join, later, pattern, readAll } from './support/disks.js'
import { expectBytes } from './support/extents.js'
import { hookedStorage } from './support/hooked-storage.js'
import { toy } from './toy-format.js'

const registry = createRegistry([toy, flat])
const content = join(
  pattern(70_000),
  new Uint8Array(40_000),
  pattern(1_100_000, 2),
  new Uint8Array(9000),
  pattern(77),
)
const reason = new Error('the user had enough')

/** The content as an image whose clusters are compressed in part. */
async function sourceFile(): Promise<MemoryStorage> {
  const { file } = await converted(deviceOf(content), toy, { create: { cluster_size: '64k' }, packed: true })
  return file
}

/** One run of a job: `tick` is to be called at every await, and aborts at one of them. */
interface Run {
  readonly tick: () => void
  readonly signal: AbortSignal
}

/**
 * Runs a job again and again, aborting at the first await, the second and so on, until it gets through. Each time it must
 * reject with the reason and do nothing afterwards, or, where the abort came too late, have done all.
 */
async function abortEverywhere(
  job: (run: Run) => Promise<{ done: Promise<unknown>; check: () => Promise<void> }>,
): Promise<number> {
  for (let at = 0; ; at++) {
    const control = new AbortController()
    let ticks = 0
    const tick = (): void => {
      if (ticks++ === at) control.abort(reason)
    }
    const { done, check } = await job({ tick, signal: control.signal })
    const outcome = await done.then(
      () => 'done' as const,
      (error: unknown) => error,
    )
    if (outcome === 'done') {
      await check()
      if (!control.signal.aborted) return ticks
    } else {
      expect(outcome).toBe(reason)
      const before = ticks
      for (let turn = 0; turn < 3; turn++) await new Promise((next) => setImmediate(next))
      expect(ticks).toBe(before)
    }
  }
}

describe('an abort at any await', () => {
  it.each<[string, Format, boolean]>([
    ['a flat image', flat, false],
    ['clusters', toy, false],
    ['compressed clusters', toy, true],
  ])('of convert into %s ends it with the reason', async (_, format, compress) => {
    const file = await sourceFile()
    const awaits = await abortEverywhere(async ({ tick, signal }) => {
      const source = await openImage(hookedStorage(file, { keepOpen: true }), {
        registry,
        options: { async: true },
      })
      const target = memoryStorage()
      const hooked = hookedStorage(target, { before: tick, keepOpen: true })
      const writer = await createWriter(format, hooked, {
        size: source.size,
        options: format === toy ? { cluster_size: '64k' } : {},
        compress,
        signal,
      })
      const done = convert(
        {
          ...source,
          size: source.size,
          extents: (options) => source.extents(options),
          async read(offset, into, options) {
            tick()
            await source.read(offset, into, options)
          },
        },
        writer,
        {
          signal,
          onProgress: tick,
          compress(bytes, spec) {
            tick()
            return compressHere(bytes, spec)
          },
        },
      )
      return {
        done,
        check: async () => expectBytes(await readAll(await openImage(target, { registry, format })), content),
      }
    })
    expect(awaits).toBeGreaterThan(8)
  })

  it('of convertStream ends it with the reason', async () => {
    const awaits = await abortEverywhere(async ({ tick, signal }) => {
      const target = memoryStorage()
      const writer = await createWriter(toy, hookedStorage(target, { before: tick }), {
        size: undefined,
        signal,
      })
      async function* pieces(): AsyncGenerator<StreamPiece> {
        for (let offset = 0; offset < content.length; offset += 300_000) {
          tick()
          yield { offset, bytes: content.subarray(offset, offset + 300_000) }
        }
      }
      const done = convertStream({ pieces, finalSize: () => content.length }, writer, {
        signal,
        onProgress: tick,
      })
      return {
        done,
        check: async () => expectBytes(await readAll(await openImage(target, { registry })), content),
      }
    })
    expect(awaits).toBeGreaterThan(8)
  })

  it('of streamImage ends it with the reason', async () => {
    const file = await sourceFile()
    const awaits = await abortEverywhere(async ({ tick, signal }) => {
      const source = await openImage(hookedStorage(file, { before: tick, keepOpen: true }), { registry })
      const parts: Uint8Array[] = []
      const sink = {
        label: 'pipe',
        async write(bytes: Uint8Array) {
          tick()
          parts.push(bytes.slice())
        },
      }
      const done = streamImage(toy, source, sink, {
        options: { cluster_size: '64k' },
        signal,
        onProgress: tick,
      })
      return {
        done,
        check: async () =>
          expectBytes(await readAll(await openImage(memoryStorage(join(...parts)), { registry })), content),
      }
    })
    expect(awaits).toBeGreaterThan(8)
  })

  it('of compare ends it with the reason', async () => {
    const file = await sourceFile()
    await abortEverywhere(async ({ tick, signal }) => {
      const open = (): ReturnType<typeof openImage> =>
        openImage(hookedStorage(file, { before: tick, keepOpen: true }), { registry })
      const done = compare(await open(), await open(), { signal, onProgress: tick })
      return { done, check: async () => expect(await done).toEqual({ same: true, sizesDiffer: false }) }
    })
  })
})

describe('an aborted job', () => {
  it('is not begun', async () => {
    const signal = AbortSignal.abort(reason)
    const file = memoryStorage()
    const writer = await createWriter(toy, file, { size: 0 })
    const empty = deviceOf(new Uint8Array(0))
    await expect(convert(empty, writer, { signal })).rejects.toBe(reason)
    const reader = { pieces: () => later<StreamPiece>([]), finalSize: () => 0 }
    await expect(convertStream(reader, writer, { signal })).rejects.toBe(reason)
    const sink = { label: 'pipe', write: () => expect.unreachable() }
    await expect(streamImage(toy, empty, sink, { signal })).rejects.toBe(reason)
    expect(file.size).toBe(0)
  })

  it('does not wait for a pipe that gives nothing', async () => {
    const control = new AbortController()
    let returned = false
    const pieces: AsyncIterable<StreamPiece> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => undefined),
        return: () => {
          returned = true
          return Promise.reject(new Error('the pipe broke'))
        },
      }),
    }
    const writer = await createWriter(toy, memoryStorage(), { size: undefined })
    const copying = convertStream({ pieces: () => pieces, finalSize: () => 0 }, writer, {
      signal: control.signal,
    })
    await new Promise((next) => setImmediate(next))
    control.abort(reason)
    await expect(copying).rejects.toBe(reason)
    expect(returned).toBe(true)
  })

  it('writes no more, also to a storage that writes at once and knows no signal', async () => {
    for (const stop of ['convert', 'stream'] as const) {
      const control = new AbortController()
      let writes = 0
      const target = hookedStorage(memoryStorage(), {
        sync: true,
        before({ op }) {
          if (op !== 'write') return
          writes++
          control.abort(reason)
        },
      })
      const source = deviceOf(pattern(9_000_000))
      const { signal } = control
      const writer = await createWriter(flat, target, { size: source.size })
      const pieces = Array.from({ length: 18 }, (_, i) => ({ offset: i * 500_000, bytes: pattern(500_000) }))
      const copying =
        stop === 'convert'
          ? convert(source, writer, { signal })
          : convertStream({ pieces: () => later(pieces), finalSize: () => 9_000_000 }, writer, { signal })
      await expect(copying).rejects.toBe(reason)
      expect(writes).toBe(1)
    }
  })

  it('does not finish what a mover that did not notice has copied', async () => {
    const control = new AbortController()
    const writer = await createWriter(toy, memoryStorage(), { size: 512 })
    const copying = convert(
      deviceOf(pattern(512)),
      { ...writer, finish: () => expect.unreachable() },
      { signal: control.signal, mover: async () => control.abort(reason) },
    )
    await expect(copying).rejects.toBe(reason)
  })
})
