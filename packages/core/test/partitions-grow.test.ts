import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createPartitionTable } from '../src/partitions/create.js'
import { growPartition } from '../src/partitions/grow.js'
import { readPartitions } from '../src/partitions.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'

const mib = 1024 * 1024
const lvmGuid = 'E6D6D379-F507-44C2-A23C-238F2A3DF928'
const types = { gpt: lvmGuid, mbr: 0x8e }

/** Always the same numbers. */
function counting(): (limit: number) => number {
  let next = 1
  return (limit) => next++ % limit
}

async function disk(scheme: 'gpt' | 'mbr', size = 16 * mib): Promise<MemoryStorage> {
  const made = memoryStorage(new Uint8Array(size))
  await createPartitionTable(made, { scheme, type: types[scheme], random: counting() })
  return made
}

const sfdisk = spawnSync('sfdisk', ['--version']).error === undefined

/** What sfdisk says of a disk, as one text; undefined where it is not installed. */
function judge(bytes: Uint8Array, ask: readonly string[] = ['--verify', '--no-act']): string | undefined {
  if (!sfdisk) return undefined
  const folder = mkdtempSync(join(tmpdir(), 'img-partitions-'))
  try {
    const path = join(folder, 'disk.raw')
    writeFileSync(path, bytes)
    const { stdout, stderr } = spawnSync('sfdisk', [...ask, path], { encoding: 'utf8' })
    return stdout + stderr
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describe.each(['gpt', 'mbr'] as const)('a new %s', (scheme) => {
  it('has one partition over the disk, which grows with it; its backup moves', async () => {
    const made = await disk(scheme)
    const before = await readPartitions(made)
    expect(before).toMatchObject([{ number: 1, offset: mib, table: scheme }])
    const said = judge(made.bytes().slice(0, made.size))
    if (said !== undefined) expect(said).toContain('No errors detected')
    await made.truncate(40 * mib)
    const grown = await growPartition(made, 1)
    expect(grown.before).toBe(before[0]?.size)
    expect(grown.size).toBe(scheme === 'gpt' ? 39 * mib - 33 * 512 : 39 * mib)
    expect(await readPartitions(made)).toMatchObject([{ number: 1, offset: mib, size: grown.size }])
    const after = judge(made.bytes().slice(0, made.size))
    if (after !== undefined) expect(after).toContain('No errors detected')
    expect(await growPartition(made, 1)).toMatchObject({ before: grown.size, size: grown.size })
  })

  it('refuses a partition that is not there, and a disk that is too small', async () => {
    await expect(growPartition(await disk(scheme), 2)).rejects.toMatchObject({ code: 'IMG_NOT_FOUND' })
    await expect(disk(scheme, mib)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED_SIZE' })
  })
})

it('a GPT with a wrong checksum, or one that tells of a larger disk, is not changed', async () => {
  const made = await disk('gpt')
  made.bytes()[1024 + 60] = 1
  await expect(growPartition(made, 1)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  const cut = await disk('gpt')
  await cut.truncate(12 * mib)
  await expect(growPartition(cut, 1)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
})

it.skipIf(!sfdisk)('a power cut at any write leaves a GPT (sfdisk is the judge)', async () => {
  const made = await disk('gpt')
  await made.truncate(24 * mib)
  const start = made.bytes().slice(0, made.size)
  for (let cut = 0; cut < 8; cut++) {
    const copy = memoryStorage(start.slice())
    const write = copy.write.bind(copy)
    let writes = 0
    Object.assign(copy, {
      write: async (offset: number, bytes: Uint8Array) => {
        if (writes++ >= cut) throw new Error('power cut')
        await write(offset, bytes)
      },
    })
    await growPartition(copy, 1).catch(() => undefined)
    expect(judge(copy.bytes().slice(0, copy.size), ['--dump'])).toContain(`type=${lvmGuid}`)
  }
})

describe('an MBR', () => {
  it('grows up to the next partition, and not inside an extended one', async () => {
    const made = await disk('mbr')
    const view = new DataView(made.bytes().buffer)
    const entry = (at: number, index: number, type: number, first: number, count: number): void => {
      view.setUint8(at + 446 + index * 16 + 4, type)
      view.setUint32(at + 446 + index * 16 + 8, first, true)
      view.setUint32(at + 446 + index * 16 + 12, count, true)
      view.setUint16(at + 510, 0xaa55, true)
    }
    entry(0, 0, 0x83, 2048, 2048)
    entry(0, 1, 0x05, 8192, 8192)
    entry(8192 * 512, 0, 0x83, 2048, 2048)
    expect(await growPartition(made, 1)).toMatchObject({ size: 6144 * 512 })
    await expect(growPartition(made, 5)).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED' })
  })
})
