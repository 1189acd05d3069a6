import { type DiskImage, memoryStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { existingWriter } from '../src/convert/existing.js'

/** An image of which every call that changes it is noted. */
function noting(clusterSize: number): { image: DiskImage; calls: string[]; bytes: Uint8Array } {
  const calls: string[] = []
  const bytes = new Uint8Array(65536).fill(9)
  const storage = memoryStorage(bytes)
  const image = {
    format: { name: 'noted' },
    storage,
    size: bytes.length,
    driver: {
      map: {
        clusterSize,
        allocate: (offset: number, length: number) =>
          clusterSize === 1
            ? { storage, hostOffset: offset, length }
            : { storage, hostOffset: 0, length, fill: clusterSize },
      },
    },
    write: async (offset: number, data: Uint8Array) => {
      calls.push(`write ${offset} ${data.length}`)
    },
    writeZeroes: async (offset: number, length: number) => {
      calls.push(`zero ${offset} ${length}`)
    },
    flush: async () => {
      calls.push('flush')
    },
  }
  return { image: image as unknown as DiskImage, calls, bytes }
}

describe('existingWriter', () => {
  it('writes through an image that allocates', async () => {
    const { image, calls } = noting(4096)
    const writer = existingWriter(image, { isZero: false })
    expect(writer.clusterSize).toBe(4096)
    const room = await writer.place(8192, 4096)
    expect([room.hostOffset, room.length]).toEqual([8192, 4096])
    await room.storage.write(room.hostOffset, new Uint8Array(4096))
    await writer.zero?.(0, 4096)
    await writer.finish()
    expect(calls).toEqual(['write 8192 4096', 'zero 0 4096', 'flush'])
  })

  it('writes straight into one that has a place for everything', async () => {
    const { image, calls, bytes } = noting(1)
    const room = await existingWriter(image, { isZero: false }).place(100, 5)
    await room.storage.write(room.hostOffset, new Uint8Array([1, 2, 3, 4, 5]))
    expect([...bytes.subarray(99, 106)]).toEqual([9, 1, 2, 3, 4, 5, 9])
    expect(calls).toEqual([])
  })

  it('leaves zeros out of what is zero', () => {
    expect(existingWriter(noting(4096).image, { isZero: true }).zero).toBeUndefined()
  })

  it('refuses what cannot be written', () => {
    const { image } = noting(4096)
    expect(() =>
      existingWriter({ ...image, write: undefined } as unknown as DiskImage, { isZero: false }),
    ).toThrow(
      expect.objectContaining({
        code: 'IMG_UNSUPPORTED',
        message: 'format noted cannot be written in place',
      }),
    )
  })
})
