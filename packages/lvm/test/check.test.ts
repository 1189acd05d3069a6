import { type CheckFinding, memoryStorage, openImage, referencesFrom } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { buildDisk, volume } from './support/build.js'
import { digest, openVolume } from './support/open.js'
import { type Scenario, scenario, scenarios } from './support/scenarios.js'

async function check(
  disks: readonly Uint8Array[],
  repair?: 'all',
  dryRun = false,
): Promise<{ findings: CheckFinding[]; corruptions: number; leaks: number; fixed: number | undefined }> {
  const [first, ...others] = disks.map((disk) => memoryStorage(disk))
  const names = others.map((_, at) => `disk${at + 1}`)
  const findings: CheckFinding[] = []
  await using image = await openImage(first as NonNullable<typeof first>, {
    format: lvm,
    repair: true,
    writable: repair !== undefined && !dryRun,
    references: referencesFrom(Object.fromEntries(names.map((name, at) => [name, others[at] as never]))),
    options: names.length > 0 ? { pv: names } : {},
  })
  const result = await image.check?.({ onFinding: (finding) => findings.push(finding), repair, dryRun })
  if (result === undefined) throw new Error('there is no check')
  return { findings, corruptions: result.corruptions, leaks: result.leaks, fixed: result.corruptionsFixed }
}

const shared = (name: string): Scenario | undefined => scenarios.find((each) => each.name === name)

describe('check', () => {
  for (const { name, disks } of scenarios.filter((each) =>
    /^(thin|raid\d+$|striped|mirror|snapshot-\d|linear-|cache|zero)/.test(each.name),
  )) {
    it(`finds nothing in ${name}`, async () => {
      expect((await check(disks())).findings).toEqual([])
    })
  }

  it('tells of a snapshot that ran full', async (test) => {
    const overflow = shared('snapshot-overflow')
    if (overflow === undefined) return test.skip('the shared fixtures are not there')
    expect((await check(overflow.disks())).findings).toMatchObject([
      { kind: 'corruption', message: expect.stringContaining('ran full') },
    ])
  })

  it.each(['bad-text1-good-mda2', 'bad-mda1-good-mda2', 'stale-metadata'])(
    'repairs the copies of the metadata of %s',
    async (name) => {
      const found = shared(name)
      if (found === undefined) return
      const disks = found.disks()
      const told = disks.map((disk) => disk.slice())
      const dry = await check(disks, 'all', true)
      expect(dry.corruptions).toBeGreaterThan(0)
      expect(disks.map((disk, at) => Buffer.compare(disk, told[at] as Uint8Array))).toEqual(
        disks.map(() => 0),
      )
      const repaired = await check(disks, 'all')
      expect(repaired.corruptions).toBe(0)
      expect(repaired.fixed).toBe(dry.corruptions)
      expect((await check(disks)).findings).toEqual([])
      for (const { name: lv, sha256 } of found.manifest.logicalVolumes) {
        if (sha256 === null) continue
        await using image = await openVolume(disks, `${found.manifest.volumeGroup}/${lv}`)
        expect(await digest(image)).toBe(sha256)
      }
    },
  )

  it('tells of segments over each other, outside, and on nothing', async () => {
    const text =
      volume('a', 'extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 1]') +
      volume('b', 'extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 2]') +
      volume('c', 'extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 5]') +
      volume('d', 'extent_count = 1 type = "striped" stripe_count = 2 stripes = ["pv0", 4]') +
      volume('e', 'extent_count = 1 type = "raid1" device_count = 1 raid0_lvs = ["nothing"]')
    const { findings } = await check([buildDisk(6, text, new Uint8Array(0))])
    const messages = findings.map(({ message }) => message).join('\n')
    expect(messages).toMatch(/extents 2 to 3 of pv0 are used by a and by b/)
    expect(messages).toMatch(/extents 5 to 7 of pv0 lie outside/)
    expect(messages).toMatch(/stripe_count is 2, but it has 1/)
    expect(messages).toMatch(/on nothing, which is not there/)
  })

  it('tells of damage in the metadata of a thin pool, in bounded time', async () => {
    const { disks: unpack, manifest } = scenario('thin-64k')
    const meta = await openVolume(unpack(), `${manifest.volumeGroup}/pool_tmeta`)
    const blocks: { disk: number; offset: number }[] = []
    for await (const extent of meta.extents()) {
      if (extent.kind !== 'data') continue
      const { label } = extent.storage
      for (let at = 0; at < Math.min(extent.length, 40 * 4096); at += 4096) {
        blocks.push({ disk: label.includes('1') ? 1 : 0, offset: extent.hostOffset + at })
      }
      break
    }
    await meta.close()
    const disks = unpack()
    let damaged = 0
    for (const { offset } of blocks.slice(0, 12)) {
      for (const disk of disks) {
        const at = offset + 100
        disk[at] = (disk[at] as number) ^ 255
        const { findings } = await check(disks)
        if (findings.length > 0) damaged++
        disk[at] = (disk[at] as number) ^ 255
      }
    }
    expect(damaged).toBeGreaterThan(0)
  })
})
