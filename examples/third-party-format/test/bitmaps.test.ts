import { memoryStorage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bitmapSizeOf, SectorBitmaps, sectorRun } from '../src/bitmaps.js'

describe('a sector bitmap', () => {
  it('takes whole sectors', () => {
    expect([512, 4096, 2 << 20, 4 << 20].map(bitmapSizeOf)).toEqual([512, 512, 512, 1024])
  })

  it('has its runs found, most significant bit first', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }), fc.nat(199), (sectors, at) => {
        const first = at % sectors.length
        const bytes = new Uint8Array(512)
        for (const [i, held] of sectors.entries()) {
          if (held) bytes[Math.floor(i / 8)] = (bytes[Math.floor(i / 8)] as number) | (128 >> (i % 8))
        }
        let end = first
        while (end < sectors.length && sectors[end] === sectors[first]) end++
        expect(sectorRun(bytes, first, sectors.length)).toEqual({ held: sectors[first], end })
      }),
    )
  })

  it('that was changed is kept until it is written, however many others are read', async () => {
    const storage = memoryStorage(new Uint8Array(20_000 * 1024))
    const bitmaps = new SectorBitmaps(storage, 4096)
    const first = await bitmaps.get(0, 0)
    bitmaps.hold(0, first, 3, 5)
    for (let block = 1; block < 20_000; block++) await bitmaps.get(block, block * 1024)
    expect([...bitmaps.changed]).toEqual([0])
    expect(bitmaps.bytesOf(0)[0]).toBe(0b0001_1000)
    // One that was given up since it was read is taken back.
    const early = await bitmaps.get(1, 1024)
    for (let block = 2; block < 20_000; block++) await bitmaps.get(block, block * 1024)
    bitmaps.hold(1, early, 0, 1)
    expect(sectorRun(await bitmaps.get(1, 1024), 0, 8)).toEqual({ held: true, end: 1 })
    bitmaps.written(0)
    expect([...bitmaps.changed]).toEqual([1])
  })

  it('that two readers wait for is one, changes of the first included', async () => {
    const pending: (() => void)[] = []
    const storage = {
      read: (_offset: number, into: Uint8Array) =>
        new Promise<void>((done) => pending.push(() => done(void into.fill(0)))),
    }
    const bitmaps = new SectorBitmaps(storage as never, 4096)
    const readers = [bitmaps.get(0, 0), bitmaps.get(0, 0)]
    pending[0]?.()
    bitmaps.hold(0, (await readers[0]) as Uint8Array, 0, 1)
    pending[1]?.()
    expect(sectorRun((await readers[1]) as Uint8Array, 0, 1).held).toBe(true)
    expect(sectorRun(await bitmaps.get(0, 0), 0, 1).held).toBe(true)
  })
})
