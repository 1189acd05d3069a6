import { type DiskImage, memoryStorage, openImage, referencesFrom } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { scenarios } from './support/scenarios.js'

/** Opens a volume on disks that tell that they are the same ones each time. */
function open(disks: readonly Uint8Array[], lv: string, copy = 0, writable = false): Promise<DiskImage> {
  const [first, ...others] = disks.map((disk, at) =>
    Object.assign(memoryStorage(disk), { identity: `disk ${at} of copy ${copy}` }),
  )
  const names = others.map((_, at) => `disk${at + 1}`)
  return openImage(first as NonNullable<typeof first>, {
    format: lvm,
    writable,
    references: referencesFrom(Object.fromEntries(names.map((name, at) => [name, others[at] as never]))),
    options: { lv, ...(names.length > 0 && { pv: names }) },
  })
}

async function bytesOf(image: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size)
  await image.read(0, bytes)
  return bytes
}

/** What is told of two volumes is enough to make one from the other. Returns the bytes told of. */
async function covers(disks: readonly Uint8Array[], a: string, b: string): Promise<number> {
  await using from = await open(disks, a)
  await using to = await open(disks, b)
  const changes = await to.driver.changes?.(from.driver)
  if (changes === undefined) throw new Error(`nothing is told of ${a} and ${b}`)
  // As far as both reach.
  const size = Math.min(from.size, to.size)
  const made = (await bytesOf(from)).subarray(0, size)
  const wanted = (await bytesOf(to)).subarray(0, size)
  let told = 0
  let end = -1
  for await (const { offset, length } of changes) {
    expect(offset).toBeGreaterThan(end)
    end = offset + length
    made.set(wanted.subarray(offset, end), Math.min(offset, size))
    told += length
  }
  expect(Buffer.compare(made, wanted)).toBe(0)
  return told
}

describe('what changed between two volumes', () => {
  for (const { name, manifest, disks: unpack } of scenarios) {
    const kind = /^snapshot-\d/.test(name) ? 'snapshot' : /^thin-\d/.test(name) ? 'thin' : undefined
    if (kind === undefined) continue
    it(`is told by the metadata of ${name}`, async () => {
      const disks = unpack()
      const names = manifest.logicalVolumes
        .filter(({ segType, name: lv }) => segType === kind || lv === 'origin')
        .map(({ name: lv }) => lv)
      for (const a of names) {
        for (const b of names) if (a !== b) await covers(disks, a, b)
      }
    }, 60_000)
  }

  it('is nothing for a thin volume and itself', async () => {
    const disks = scenarios.find(({ name }) => name === 'thin-64k')?.disks() ?? []
    expect(await covers(disks, 't1', 't1')).toBe(0)
  })

  it('is told of a thin snapshot after its origin was written', async () => {
    const thin = scenarios.find(({ name }) => name === 'thin-64k')
    const disks = thin?.disks() ?? []
    const before = await covers(disks, 's1', 't1')
    await using image = await open(disks, 't1', 0, true)
    await image.write?.(65536 * 3 + 5, new Uint8Array(65536 * 2).fill(9))
    await image.close()
    const after = await covers(disks, 's1', 't1')
    expect(after - before).toBeGreaterThanOrEqual(0)
    expect(after).toBeGreaterThanOrEqual(3 * 65536)
  })

  it('is not told of two copies of a disk', async () => {
    const disks = scenarios.find(({ name }) => name === 'snapshot-4k')?.disks() ?? []
    await using from = await open(disks, 'origin', 1)
    await using to = await open(disks, 'snap1', 2)
    expect(await to.driver.changes?.(from.driver)).toBeUndefined()
  })
})
