import { type BlockDevice, type Extent, ImageError, memoryStorage, type Storage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { nodeMover } from '../src/index.js'

const unit = 4096

/** Storage whose reads never can be had at once and end with an error, in so many turns; counts those under way. */
function failing(label: string, turns: number, underWay: { count: number }): Storage {
  return {
    ...memoryStorage(new Uint8Array(unit)),
    label,
    size: unit,
    readSync: () => false,
    read: async () => {
      underWay.count++
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
      underWay.count--
      throw new ImageError('IMG_IO', `${label} cannot be read`)
    },
    close: () => Promise.resolve(),
  }
}

/** Fails at once. */
function broken(label: string): Storage {
  const fail = (): never => {
    throw new ImageError('IMG_IO', `${label} cannot be read`)
  }
  return { ...failing(label, 0, { count: 0 }), readSync: fail, read: fail }
}

async function move(sources: readonly Storage[]): Promise<void> {
  async function* extents(): AsyncGenerator<Extent> {
    for (const [index, storage] of sources.entries())
      yield { kind: 'data', offset: index * unit, length: unit, storage, hostOffset: 0, depth: 0 }
  }
  const target = memoryStorage(new Uint8Array(unit * sources.length))
  await nodeMover({
    source: { size: unit * sources.length } as BlockDevice,
    extents: extents(),
    writer: {
      clusterSize: 1,
      place: (offset, length) => ({ storage: target as Required<Storage>, hostOffset: offset, length }),
      finish: () => Promise.resolve(),
    },
    sparse: unit,
    advance: () => undefined,
  })
}

describe('nodeMover', () => {
  it('tells the first part that fails, once no other is read any more', async () => {
    const underWay = { count: 0 }
    await expect(move([failing('slow', 5, underWay), failing('quick', 1, underWay)])).rejects.toThrow('slow')
    expect(underWay.count).toBe(0)
  })

  it('leaves no failed read to itself where a later part fails at once', async () => {
    const underWay = { count: 0 }
    await expect(move([failing('slow', 3, underWay), broken('bad')])).rejects.toThrow('slow')
    await expect(move([broken('bad'), failing('slow', 3, underWay)])).rejects.toThrow('bad')
    expect(underWay.count).toBe(0)
    // What nobody waits for would end the process, and fails the run of tests.
    await new Promise((resolve) => setTimeout(resolve, 20))
  })
})
