import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readPartitions } from '../src/partitions.js'
import { memoryStorage } from '../src/storage/memory.js'

const sector = 512

/** A disk with an MBR whose four entries are given as [active, type, start, sectors]. */
function mbr(entries: readonly (readonly number[])[], sectors = 4096): Uint8Array {
  const disk = new Uint8Array(sectors * sector)
  table(disk, 0, entries)
  return disk
}

function table(disk: Uint8Array, at: number, entries: readonly (readonly number[])[]): void {
  const view = new DataView(disk.buffer, at)
  entries.forEach(([active = 0, type = 0, start = 0, count = 0], i) => {
    view.setUint8(446 + i * 16, active)
    view.setUint8(446 + i * 16 + 4, type)
    view.setUint32(446 + i * 16 + 8, start, true)
    view.setUint32(446 + i * 16 + 12, count, true)
  })
  view.setUint16(510, 0xaa55, true)
}

const partitionsOf = (bytes: Uint8Array) => readPartitions(memoryStorage(bytes))

describe('an MBR', () => {
  it('has partitions with their types, those of an extended one counted from 5', async () => {
    const disk = mbr([
      [0x80, 0x83, 8, 100],
      [0, 0x05, 200, 1000],
    ])
    table(disk, 200 * sector, [
      [0, 0x82, 8, 50],
      [0, 0x05, 300, 100],
    ])
    table(disk, 500 * sector, [[0, 0x8e, 8, 5000]])
    expect(await partitionsOf(disk)).toEqual([
      { number: 1, offset: 4096, size: 51200, table: 'mbr', type: '0x83', name: '' },
      { number: 5, offset: 208 * sector, size: 25600, table: 'mbr', type: '0x82', name: '' },
      // Cut where the disk ends.
      { number: 6, offset: 508 * sector, size: (4096 - 508) * sector, table: 'mbr', type: '0x8e', name: '' },
    ])
  })

  it('that goes in circles ends', async () => {
    const disk = mbr([[0, 0x05, 200, 1000]])
    table(disk, 200 * sector, [
      [0, 0x83, 8, 8],
      [0, 0x05, 0, 0],
    ])
    expect(await partitionsOf(disk)).toHaveLength(1)
  })

  it('is none where the bytes of the entries are code, as in the first sector of a file system', async () => {
    expect(await partitionsOf(mbr([[0x33, 0x83, 8, 100]]))).toEqual([])
  })

  it('is none on an empty disk, and on one shorter than a sector', async () => {
    expect(await partitionsOf(new Uint8Array(4096))).toEqual([])
    expect(await partitionsOf(new Uint8Array(100))).toEqual([])
  })
})

it('any bytes are read without failing, and every partition lies on the disk', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 64, maxLength: 64 }),
      fc.uint8Array({ minLength: 512, maxLength: 2048 }),
      async (entries, rest) => {
        const disk = new Uint8Array(sector + rest.length)
        disk.set(rest, sector)
        disk.set(entries, 446)
        for (let i = 0; i < 4; i++) disk[446 + i * 16] = 0
        disk[510] = 0x55
        disk[511] = 0xaa
        for (const { offset, size } of await partitionsOf(disk)) {
          expect(offset).toBeGreaterThan(0)
          expect(size).toBeGreaterThan(0)
          expect(offset + size).toBeLessThanOrEqual(disk.length)
        }
      },
    ),
  )
})

const sfdisk = spawnSync('sfdisk', ['--version']).error === undefined

describe.skipIf(!sfdisk)('a disk partitioned by sfdisk (skipped where that is not installed)', () => {
  it.each(['gpt', 'dos'])('with a table of kind %s has what was asked for', async (label) => {
    const dir = mkdtempSync(join(tmpdir(), 'img-partitions-'))
    try {
      const path = join(dir, 'disk.raw')
      writeFileSync(path, '')
      truncateSync(path, 8 * 1024 * 1024)
      const name = label === 'gpt' ? ', name="système"' : ''
      const input = `label: ${label}\nstart=2048, size=4096, type=L${name}\nstart=8192, size=2048, type=L\n`
      const { status, stderr } = spawnSync('sfdisk', ['--quiet', path], { input, encoding: 'utf8' })
      expect(status, stderr).toBe(0)
      const type = label === 'gpt' ? '0FC63DAF-8483-4772-8E79-3D69D8477DE4' : '0x83'
      const kind = label === 'gpt' ? 'gpt' : 'mbr'
      expect(await partitionsOf(new Uint8Array(readFileSync(path)))).toEqual([
        {
          number: 1,
          offset: 1 << 20,
          size: 2 << 20,
          table: kind,
          type,
          name: label === 'gpt' ? 'système' : '',
        },
        { number: 2, offset: 4 << 20, size: 1 << 20, table: kind, type, name: '' },
      ])
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})
