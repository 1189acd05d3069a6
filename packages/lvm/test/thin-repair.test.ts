import { type CheckFinding, type CheckResult, memoryStorage, openImage, referencesFrom } from '@img/core'
import { describe, expect, it } from 'vitest'
import { lvm } from '../src/format.js'
import { GroupSession } from '../src/group-session.js'
import { LogicalVolumes } from '../src/logical-volumes.js'
import { physicalVolumes } from '../src/open-volume.js'
import { commitPool } from '../src/pool-commit.js'
import { findPhysicalVolumes, readGroup } from '../src/scan.js'
import { SpaceMap } from '../src/space-map.js'
import { readThinSuperblock } from '../src/thin-superblock.js'
import { PoolChange } from '../src/thin-transaction.js'
import { volumeStorage } from '../src/volume.js'
import { Disks } from '../src/write-target.js'
import { digest, openVolume } from './support/open.js'
import { scenario } from './support/scenarios.js'
import { sound, thinCheck } from './support/thin-check.js'

interface Checked {
  readonly result: CheckResult
  readonly findings: readonly CheckFinding[]
}

async function check(
  disks: readonly Uint8Array[],
  repair?: 'leaks' | 'all',
  dryRun = false,
): Promise<Checked> {
  const [first, second] = disks.map((disk) => memoryStorage(disk))
  const findings: CheckFinding[] = []
  await using image = await openImage(first as never, {
    format: lvm,
    repair: true,
    writable: repair !== undefined && !dryRun,
    references: referencesFrom({ second: second as never }),
    options: { pv: ['second'] },
  })
  const result = await image.check?.({ onFinding: (finding) => findings.push(finding), repair, dryRun })
  return { result: result as CheckResult, findings }
}

/** Changes the space maps of the pool, and nothing else. */
async function miscount(
  disks: readonly Uint8Array[],
  change: (data: SpaceMap, metadata: SpaceMap) => void,
): Promise<void> {
  const storages = disks.map((disk) => memoryStorage(disk))
  const found = (await Promise.all(storages.map((storage) => findPhysicalVolumes(storage)))).flat()
  const { group, root } = await readGroup(found, undefined, () => undefined)
  const writer = (): never => expect.fail('no metadata of lvm2 is written')
  const session = new GroupSession({ group: group as never, root: root as never, found, writer })
  const places = physicalVolumes(session.group, found)
  const opened = new Disks(storages)
  const volumes = new LogicalVolumes(session.group, places, () => undefined, opened)
  const { metadata } = await volumes.poolParts('pool')
  const storage = volumeStorage(metadata, 'pool')
  const superblock = await readThinSuperblock(storage, 'pool')
  const data = await SpaceMap.ofData(storage, superblock.data)
  await data.loadBitmap(0)
  const pool = await PoolChange.open(storage, superblock, data)
  change(pool.data, pool.metadata)
  await commitPool(metadata, await pool.finish(), opened)
}

const last = (map: SpaceMap, wanted: number): number => {
  for (let block = map.blocks - 1; block >= 0; block--) if (map.get(block) === wanted) return block
  return expect.fail(`no block is counted ${wanted}`)
}

describe('repair of a thin pool', () => {
  it.each(['leaks', 'all'] as const)('gives back what is leaked: %s', async (repair) => {
    const { disks: unpack, manifest } = scenario('thin-64k')
    const disks = unpack()
    await miscount(disks, (data, metadata) => {
      data.set(last(data, 0), 1)
      data.set(last(data, 0), 7)
      data.set(last(data, 2), 3)
      metadata.set(last(metadata, 0), 1)
      metadata.set(last(metadata, 0), 2)
    })
    const before = disks.map((disk) => disk.slice())
    const expected = { corruptions: 0, leaks: 5 }
    expect((await check(disks)).result).toMatchObject(expected)
    expect(await thinCheck(disks)).not.toBe('ok')
    const dry = await check(disks, repair, true)
    expect(dry.result).toMatchObject(expected)
    expect(dry.findings.every(({ fixed }) => fixed === true)).toBe(true)
    expect(disks.map((disk, at) => Buffer.compare(disk, before[at] as Uint8Array))).toEqual([0, 0])
    expect((await check(disks, repair)).result).toMatchObject({ corruptions: 0, leaks: 0, leaksFixed: 5 })
    await sound(disks)
    for (const { name, sha256, container } of manifest.logicalVolumes) {
      if (sha256 === null || container === true || /^pool_|pmspare/.test(name)) continue
      await using image = await openVolume(disks, name)
      expect(await digest(image), name).toBe(sha256)
    }
  })

  it('leaves a pool alone in which a block is used more often than it is counted', async () => {
    const disks = scenario('thin-64k').disks()
    await miscount(disks, (data, metadata) => {
      data.set(last(data, 0), 1)
      data.set(last(data, 2), 1)
      metadata.set(last(metadata, 0), 1)
    })
    const before = disks.map((disk) => disk.slice())
    const { result, findings } = await check(disks, 'all')
    expect(result).toMatchObject({ corruptions: 1, leaks: 2, leaksFixed: 0 })
    expect(findings.map(({ message }) => message).join('\n')).toMatch(/is used 2 times, and counted 1/)
    expect(disks.map((disk, at) => Buffer.compare(disk, before[at] as Uint8Array))).toEqual([0, 0])
  })
})
