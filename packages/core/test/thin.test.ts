import { describe, expect, it } from 'vitest'
import {
  asyncMover,
  type BlockDevice,
  compressHere,
  convert,
  type Extent,
  type ImageWriter,
  memoryStorage,
  type Storage,
  thin,
} from '../src/index.js'

const unit = 4096

/** A disk whose layers are given as [depth, kind, length]; its bytes are the number of the depth and 1, or zero. */
function disk(layout: readonly [number, Extent['kind'], number][]): BlockDevice {
  const size = layout.reduce((sum, [, , length]) => sum + length, 0)
  const bytes = new Uint8Array(size)
  const extents: Extent[] = []
  let offset = 0
  const storage: Storage = memoryStorage(bytes)
  for (const [depth, kind, length] of layout) {
    if (kind === 'data') bytes.fill(depth + 1, offset, offset + length)
    extents.push(
      (kind === 'data'
        ? { kind, storage, hostOffset: offset, offset, length, depth }
        : { kind, offset, length, depth }) as Extent,
    )
    offset += length
  }
  return {
    size,
    blockSize: 512,
    read: async (at, into) => into.set(bytes.subarray(at, at + into.length)),
    async *extents() {
      yield* extents
    },
    close: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  }
}

/** A writer that notes what it is told: the letter of each sector is d (data), z (zero) or . (left to the backing file). */
function noting(size: number): { writer: ImageWriter; marks: string[]; content: Uint8Array } {
  const marks = Array.from({ length: size / 512 }, () => '.')
  const content = new Uint8Array(size)
  const target = memoryStorage(content)
  const mark = (letter: string, offset: number, length: number): void => {
    marks.fill(letter, offset / 512, (offset + length) / 512)
  }
  return {
    marks,
    content,
    writer: {
      clusterSize: unit,
      place(offset, length) {
        mark('d', offset, length)
        return {
          storage: { ...target, write: async (at: number, b: Uint8Array) => content.set(b, at) } as never,
          hostOffset: offset,
          length,
        }
      },
      zero: (offset, length) => mark('z', offset, length),
      finish: async () => undefined,
    },
  }
}

/** One letter a sector, as a letter a cluster where all are the same. */
function summary(marks: readonly string[]): string {
  const clusters: string[] = []
  for (let at = 0; at < marks.length; at += 8) clusters.push([...new Set(marks.slice(at, at + 8))].join(''))
  return clusters.join(' ')
}

async function run(
  layout: readonly [number, Extent['kind'], number][],
): Promise<{ summary: string; content: Uint8Array }> {
  const source = disk(layout)
  const { writer, marks, content } = noting(source.size)
  const parts = thin(source, writer)
  await convert(parts.source, parts.writer, { mover: asyncMover(compressHere) })
  return { summary: summary(marks), content }
}

describe('thin', () => {
  it('leaves whole clusters of lower layers to the backing file', async () => {
    const { summary } = await run([
      [0, 'data', unit],
      [1, 'data', 2 * unit],
      [1, 'unallocated', unit],
      [0, 'data', unit],
    ])
    expect(summary).toBe('d . . . d')
  })

  it('marks zeros of the own layer, also beside what is left out', async () => {
    const { summary } = await run([
      [1, 'unallocated', unit],
      [0, 'zero', unit],
      [1, 'zero', unit],
      [0, 'unallocated', unit],
    ])
    expect(summary).toBe('. z . z')
  })

  it('copies clusters whole that the own layer holds in part', async () => {
    const { summary, content } = await run([
      [1, 'data', unit + 512],
      [0, 'data', 512],
      [1, 'data', 3 * unit - 1024],
      [0, 'data', unit],
    ])
    expect(summary).toBe('. d . . d')
    expect([...content.subarray(unit, unit + 1536)].filter((_, i) => i % 512 === 0)).toEqual([2, 1, 2])
  })

  it('leaves out the last cluster that the end of the disk cuts', async () => {
    const { summary } = await run([
      [0, 'data', unit],
      [1, 'unallocated', 512],
    ])
    expect(summary).toBe('d .')
    expect(
      (
        await run([
          [0, 'data', unit],
          [0, 'zero', 512],
        ])
      ).summary,
    ).toBe('d z')
  })

  it('takes a disk without backing file as it is', async () => {
    const { summary } = await run([
      [0, 'unallocated', unit],
      [0, 'data', unit],
    ])
    expect(summary).toBe('z d')
  })
})
