import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openImage } from '@img/core'
import { patternDisk } from '@tooling/test-disks/disks'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { qemuCheck, runCheck } from './support/check.js'
import { registry } from './support/disks.js'

const KB = 1024

/** Images of all kinds, to be damaged. */
const kinds = [
  { options: 'cluster_size=4k', size: 900 * KB, snapshots: 2 },
  { options: 'compat=0.10,cluster_size=4k', size: 700 * KB, snapshots: 1 },
  { options: 'cluster_size=512,refcount_bits=64', size: 300 * KB, snapshots: 0 },
  { options: 'cluster_size=512,refcount_bits=1', size: 200 * KB, snapshots: 0 },
  { options: 'cluster_size=4k,refcount_bits=8', size: 700 * KB, snapshots: 1, compress: true },
  { options: 'cluster_size=16k,extended_l2=on', size: 900 * KB, snapshots: 1 },
  { options: 'cluster_size=4k,refcount_bits=32', size: 900 * KB, snapshots: 0, bitmap: true },
] as const

type Target = 'refcount' | 'block' | 'flag' | 'l2' | 'l1' | 'snapshot' | 'anywhere'

interface Damage {
  readonly target: Target
  /** Where among what there is, and what to write: numbers that any image can take. */
  readonly where: number
  readonly value: number
}

const damage = fc.record({
  target: fc.constantFrom<Target>(
    'refcount',
    'refcount',
    'block',
    'flag',
    'flag',
    'l2',
    'l1',
    'snapshot',
    'anywhere',
  ),
  where: fc.nat(),
  value: fc.nat(),
})

class Damager {
  readonly bytes: Uint8Array
  readonly #view: DataView
  readonly #cluster: number

  constructor(image: Uint8Array) {
    this.bytes = image.slice()
    this.#view = new DataView(this.bytes.buffer)
    this.#cluster = 2 ** this.#view.getUint32(20)
  }

  apply({ target, where, value }: Damage): void {
    const view = this.#view
    const table = this.#u64(48)
    const block = this.#u64(table)
    const l1 = this.#u64(40)
    const l2s = this.#l2s(l1, view.getUint32(36))
    const entries = l2s.flatMap((l2) => this.#entries(l2))
    const entry = entries[where % entries.length] ?? l1
    if (target === 'refcount') view.setUint8(block + (where % Math.min(64, this.#cluster)), value % 4)
    else if (target === 'block') {
      const garbage = [0, this.#cluster * 3, this.#cluster * (1 + (value % 2000))][where % 3] as number
      view.setBigUint64(table, BigInt(garbage))
    } else if (target === 'flag') {
      const at = where % 5 === 0 ? l1 : entry
      view.setUint8(at, view.getUint8(at) ^ 0x80)
    } else if (target === 'l2') {
      const host = [this.#cluster * (value % 300), view.getUint32(entry + 4) + 512 * (value % 3), value][
        where % 3
      ]
      view.setUint32(entry + 4, (host as number) >>> 0)
    } else if (target === 'l1') view.setUint32(l1 + 4, this.#cluster * (value % 200))
    else if (target === 'snapshot') {
      if (view.getUint32(60) === 0) return
      const at = this.#u64(64) + [4, 7, 11, 36, 39][where % 5]!
      view.setUint8(at, value & 0xff)
    } else view.setUint8((where % Math.min(this.bytes.length, 24 * this.#cluster)) | 128, value & 0xff)
  }

  #l2s(l1: number, count: number): number[] {
    const found: number[] = []
    for (let i = 0; i < count; i++) {
      const offset = this.#view.getUint32(l1 + i * 8 + 4)
      if (offset > 0 && offset + this.#cluster <= this.bytes.length) found.push(offset - (offset % 512))
    }
    return found
  }

  #entries(l2: number): number[] {
    const step = (this.#view.getUint32(76) & 16) !== 0 && this.#view.getUint32(4) === 3 ? 16 : 8
    const found: number[] = []
    for (let at = l2; at < l2 + this.#cluster; at += step) {
      if (this.#view.getBigUint64(at) !== 0n) found.push(at)
    }
    return found
  }

  /** An offset in the image; small, whatever stands there. */
  #u64(at: number): number {
    return Math.min(this.#view.getUint32(at + 4), this.bytes.length - this.#cluster)
  }
}

describe.skipIf(!hasQemu)('damaged at random, against qemu-img (skipped without it)', () => {
  let dir = ''
  const images: Uint8Array[] = []

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'qcow2-check-'))
    for (const [seed, { options, size, snapshots, ...more }] of kinds.entries()) {
      const path = join(dir, 'disk.qcow2')
      const raw = join(dir, 'disk.raw')
      writeFileSync(raw, patternDisk(size, seed + 1, 60_000))
      const compress = 'compress' in more ? ['-c'] : []
      run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', ...compress, '-o', options, raw, path)
      for (let i = 0; i < snapshots; i++) {
        run('qemu-img', 'snapshot', '-c', `s${i}`, path)
        run('qemu-io', '-c', `write -P ${i + 1} ${i * 40}k 30k`, path)
      }
      if ('bitmap' in more) run('qemu-img', 'bitmap', '--add', path, 'b0')
      images.push(new Uint8Array(readFileSync(path)))
    }
  }, 60_000)

  afterAll(() => rmSync(dir, { recursive: true, force: true }))

  it('finds and repairs the same; what is repaired is clean, and holds what it held', async () => {
    const seed = Number(process.env.IMG_TEST_SEED ?? 20261122)
    await fc.assert(
      fc.asyncProperty(
        fc.nat(kinds.length - 1),
        fc.array(damage, { minLength: 1, maxLength: 5 }),
        async (kind, damages) => {
          const damager = new Damager(images[kind] as Uint8Array)
          for (const one of damages) damager.apply(one)
          await compareRepairs(damager.bytes, dir)
        },
      ),
      { seed, numRuns: Number(process.env.IMG_TEST_RUNS ?? 8), endOnFailure: true },
    )
  }, 120_000)
})

async function compareRepairs(bytes: Uint8Array, dir: string): Promise<void> {
  const path = join(dir, 'damaged.qcow2')
  writeFileSync(path, bytes)
  const theirs = qemuCheck(path)
  // What neither opens.
  const opened = await openImage(new MemoryStorage(bytes.slice()), {
    registry,
    format: 'qcow2',
    repair: true,
    chain: false,
  }).catch(() => undefined)
  if (opened === undefined) {
    expect(theirs.rc).toBe(1)
    return
  }
  await opened.close()
  const ours = await runCheck(new MemoryStorage(bytes.slice()))
  if (theirs.json !== undefined) expect(ours).toEqual(theirs)
  else expect(ours.rc).toBe(1)
  for (const how of ['leaks', 'all'] as const) {
    writeFileSync(path, bytes)
    const repairedByThem = qemuCheck(path, how)
    // Where qemu-img gives up there is nothing to compare with; it must be no worse.
    const gaveUp = repairedByThem.json === undefined || repairedByThem.rc === 1
    const after = gaveUp ? repairedByThem : qemuCheck(path)
    const content = repairedByThem.rc === 0 ? contentOf(path, dir) : undefined
    const storage = new MemoryStorage(bytes.slice())
    const dry = await runCheck(new MemoryStorage(bytes.slice()), how, true)
    const repaired = await runCheck(storage, how)
    expect(repaired).toEqual(dry)
    writeFileSync(path, storage.content())
    const judged = qemuCheck(path)
    if (!gaveUp) {
      expect(repaired.rc).toBe(repairedByThem.rc)
      expect(judged.rc).toBe(after.rc)
    }
    if (repaired.rc === 0) expect(judged.rc).toBe(0)
    if (content !== undefined) expect(contentOf(path, dir)).toEqual(content)
  }
}

/** What the guest sees; undefined where it cannot be read whole. */
function contentOf(path: string, dir: string): Buffer | undefined {
  const raw = join(dir, 'content.raw')
  if (run('qemu-img', 'convert', '-U', '-f', 'qcow2', '-O', 'raw', path, raw).status !== 0) return undefined
  return readFileSync(raw)
}
