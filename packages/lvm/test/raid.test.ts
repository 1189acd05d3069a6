import { memoryStorage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addTimes, power } from '../src/galois.js'
import { parityVolume } from '../src/raid.js'
import { raidLayouts } from '../src/raid-layout.js'
import { readVolume, storageVolume } from '../src/volume.js'

const chunk = 512
const stripes = 12

/** Writes a disk over images the way a layout says, with coefficients that are counted here anew. */
function spread(name: string, devices: number, disk: Uint8Array): Uint8Array[] {
  const layout = raidLayouts[name]
  if (layout === undefined) throw new Error(name)
  const images = Array.from({ length: devices }, () => new Uint8Array(stripes * chunk))
  const count = devices - layout.parities
  for (let stripe = 0; stripe < stripes; stripe++) {
    const part = (device: number): Uint8Array =>
      (images[device] as Uint8Array).subarray(stripe * chunk, (stripe + 1) * chunk)
    const places = Array.from({ length: count }, (_, index) => layout.place(stripe, index, devices))
    const { parity, second } = places[0] as (typeof places)[0]
    places.forEach(({ data }, index) => {
      const from = (stripe * count + index) * chunk
      part(data).set(disk.subarray(from, from + chunk))
    })
    for (const { data } of places) addTimes(part(parity), part(data), 1)
    if (second < 0) continue
    const order = Array.from({ length: devices }, (_, at) =>
      layout.byDevice ? at : (second + 1 + at) % devices,
    )
    let slot = 0
    for (const device of order) {
      const isData = device !== parity && device !== second
      if (isData) addTimes(part(second), part(device), power(layout.byDevice ? device : slot))
      if (isData) slot++
    }
  }
  return images
}

describe('parity', () => {
  it.each(Object.keys(raidLayouts))(
    '%s: any images may be missing, as many as it has parities',
    async (name) => {
      const layout = raidLayouts[name] as NonNullable<(typeof raidLayouts)[string]>
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: layout.parities + 2, max: 7 }),
          fc.integer({ min: 0, max: 255 }),
          fc.nat(),
          fc.nat(),
          async (devices, seed, a, b) => {
            const size = stripes * chunk * (devices - layout.parities)
            const disk = Uint8Array.from({ length: size }, (_, at) => (at * 7 + (at >> 8) * 13 + seed) % 251)
            const lost = [a % devices, b % devices].slice(0, layout.parities)
            const images = spread(name, devices, disk).map((bytes, at) => ({
              ...storageVolume(
                memoryStorage(lost.includes(at) ? new Uint8Array(bytes.length).fill(85) : bytes),
                bytes.length,
              ),
              missing: lost.includes(at),
            }))
            const volume = parityVolume({ name, layout, images, chunk, size, inSync: true })
            const read = new Uint8Array(size)
            await readVolume(volume, 0, read)
            expect(Buffer.compare(read, disk)).toBe(0)
          },
        ),
        { numRuns: 8 },
      )
    },
  )
})
