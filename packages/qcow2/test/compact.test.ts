import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type DiskImage, openImage } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, must, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import { passphrase, qemuCreate, secretOf } from './support/encryption.js'
import { inDirectory, openAt } from './support/on-disk.js'
import { PowerStorage } from './support/power.js'
import { besides } from './support/write-run.js'

const KB = 1024

interface Kind {
  readonly title: string
  readonly options: string
  readonly backing?: boolean
  readonly snapshots?: boolean
  readonly compressed?: boolean
}

const size = 3000 * KB

/** An image full of holes: much was written, and most of it given up again. */
async function make(dir: string, path: string, kind: Kind, next: () => number): Promise<void> {
  const below: string[] = []
  if (kind.backing === true) {
    writeFileSync(join(dir, 'base.raw'), patternDisk(size, 8))
    below.push('-b', 'base.raw', '-F', 'raw')
  }
  must('qemu-img', 'create', '-q', '-f', 'qcow2', ...below, '-o', kind.options, path, `${size}`)
  const disk = await openAt(path)
  const unit = disk.clusterSize
  const some = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const start = Math.floor((next() * size) / unit) * unit
      const end = Math.min(size, start + unit * (1 + Math.floor((next() * 400 * KB) / unit)))
      const bytes = patternDisk(end - start, i + 1, 9000)
      const pick = next()
      if (kind.compressed === true && pick < 0.6) await disk.writeCompressed?.(start, bytes)
      else if (pick < 0.75) await disk.write?.(start, bytes)
      else if (pick < 0.85) await disk.writeZeroes?.(start, end - start, { unmap: false })
      else await disk.discard?.(start, end - start)
    }
  }
  await disk.write?.(0, patternDisk(1000 * KB, 77))
  await some(10)
  if (kind.snapshots === true) {
    await disk.snapshots?.create?.('one')
    await some(6)
    await disk.snapshots?.create?.('two')
    await some(4)
    await disk.snapshots?.delete?.('one')
    await disk.snapshots?.create?.('three')
    await some(2)
  }
  await disk.discard?.(0, 700 * KB)
  await disk.close()
}

/** Content of the disk and of its snapshots. */
async function everything(disk: DiskImage): Promise<Buffer[]> {
  const found = [Buffer.from(await content(disk))]
  for (const { id } of (await disk.snapshots?.list()) ?? []) {
    const snapshot = await disk.snapshots?.open(id)
    if (snapshot) found.push(Buffer.from(await content(snapshot)))
    await snapshot?.close()
  }
  return found
}

function differ(found: readonly Buffer[], wanted: readonly Buffer[]): number {
  return found.findIndex((bytes, i) => Buffer.compare(bytes, wanted[i] as Buffer) !== 0)
}

/** Clusters of the file that nothing uses, counted by the refcounts: allocated ones of qemu-img and what it has beside. */
function freeShare(path: string): number {
  const { 'image-end-offset': end } = JSON.parse(must('qemu-img', 'check', '--output=json', path))
  return statSync(path).size - end
}

const kinds: readonly Kind[] = [
  { title: 'plain', options: 'cluster_size=64k' },
  { title: 'small clusters above a backing file', options: 'cluster_size=4k,refcount_bits=1', backing: true },
  { title: 'snapshots', options: 'cluster_size=16k', snapshots: true },
  { title: 'snapshots, smallest clusters', options: 'cluster_size=512,refcount_bits=8', snapshots: true },
  { title: 'compressed with snapshots', options: 'cluster_size=16k', snapshots: true, compressed: true },
  { title: 'extended L2', options: 'cluster_size=16k,extended_l2=on', snapshots: true, backing: true },
  { title: 'version 2', options: 'cluster_size=4k,compat=0.10', snapshots: true },
  { title: 'compressed, narrow refcounts', options: 'cluster_size=4k,refcount_bits=4', compressed: true },
]
const seed = Number(process.env.IMG_TEST_SEED ?? 577)

describe.skipIf(!hasQemu)('compact (skipped without qemu-img)', () => {
  it.each(kinds)('makes the file as small as what it holds: $title', async (kind) => {
    await inDirectory(async (dir, path) => {
      const next = random(seed)
      await make(dir, path, kind, next)
      assertClean('qcow2', path)
      const before = statSync(path).size
      const disk = await openAt(path)
      const wanted = await everything(disk)
      const progress: number[] = []
      await disk.compact?.({ onProgress: ({ done, total }) => progress.push(done / total) })
      expect(progress.every((share) => share <= 1)).toBe(true)
      expect(disk.storage.size).toBeLessThanOrEqual(before)
      expect(differ(await everything(disk), wanted), `seed ${seed}`).toBe(-1)
      // The same disk goes on.
      await disk.write?.(5000, new Uint8Array(9000).fill(4))
      wanted[0]?.fill(4, 5000, 14000)
      await disk.close()
      assertClean('qcow2', path)
      expect(freeShare(path)).toBeLessThanOrEqual(0)
      const again = await openAt(path)
      expect(differ(await everything(again), wanted)).toBe(-1)
      await again.compact?.()
      expect(differ(await everything(again), wanted)).toBe(-1)
      // No hole is left that a whole cluster would fit into, beside what compressed data cannot fill.
      const { used, free } = await usage(again)
      expect(free).toBeLessThanOrEqual(kind.compressed === true ? used * 0.2 + 3 : 2)
      await again.close()
      assertClean('qcow2', path)
      const out = join(dir, 'seen.raw')
      must('qemu-img', 'convert', '-O', 'raw', path, out)
      expect(Buffer.compare(readFileSync(out), wanted[0] as Buffer)).toBe(0)
    })
  })

  it('keeps persistent bitmaps, and the data of an external file, as they are', async () => {
    await inDirectory(async (dir, path) => {
      await make(dir, path, { title: '', options: 'cluster_size=4k' }, random(seed + 4))
      must('qemu-img', 'bitmap', '--add', '-g', '512', path, 'one')
      must('qemu-img', 'bitmap', '--add', '--disable', '-g', '4k', path, 'two')
      must('qemu-io', '-c', 'write -P 6 100k 300k', '-c', 'write -P 7 2000k 64k', path)
      must('qemu-io', '-c', 'discard 1000k 900k', path)
      const before = JSON.parse(must('qemu-img', 'info', '--output=json', path))
      const disk = await openAt(path)
      const wanted = await everything(disk)
      const dirty = await dirtyRanges(disk)
      expect(dirty.length).toBeGreaterThan(1)
      const larger = disk.storage.size
      await disk.compact?.()
      expect(disk.storage.size).toBeLessThan(larger)
      expect(await dirtyRanges(disk)).toEqual(dirty)
      const { used, free } = await usage(disk)
      expect(free).toBeLessThanOrEqual(2)
      expect(used).toBeGreaterThan(0)
      await disk.close()
      assertClean('qcow2', path)
      const after = JSON.parse(must('qemu-img', 'info', '--output=json', path))
      expect(after['format-specific'].data.bitmaps).toEqual(before['format-specific'].data.bitmaps)
      const again = await openAt(path)
      expect(differ(await everything(again), wanted)).toBe(-1)
      await again.close()

      const data = join(dir, 'data.raw')
      must('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `cluster_size=4k,data_file=${data}`, path, '8M')
      must('qemu-io', '-c', 'write -P 1 0 8M', '-c', 'write -z -u 0 5M', path)
      const before2 = readFileSync(data)
      const references = { open: async () => ({ storage: new FileStorage(data, { flags: 'r+' }) }) }
      const file = new FileStorage(path, { flags: 'r+' })
      const external = await openImage(file, { registry, format: 'qcow2', writable: true, references })
      const shown = await everything(external)
      await external.compact?.()
      expect(differ(await everything(external), shown)).toBe(-1)
      await external.close()
      assertClean('qcow2', path)
      expect(Buffer.compare(readFileSync(data), before2)).toBe(0)
    })
  })

  it.each(['encrypt.format=luks,encrypt.iter-time=10', 'encrypt.format=aes'])(
    'moves encrypted clusters so that they can be read: %s',
    async (options) => {
      await inDirectory(async (_dir, path) => {
        qemuCreate(path, 2000 * KB, `cluster_size=4k,${options}`)
        const file = new FileStorage(path, { flags: 'r+' })
        const secret = secretOf(passphrase)
        const disk = await openImage(file, { registry, format: 'qcow2', writable: true, secret })
        await disk.write?.(0, patternDisk(2000 * KB, 5, 9000))
        await disk.discard?.(0, 900 * KB)
        const wanted = await everything(disk)
        const before = disk.storage.size
        await disk.compact?.()
        expect(disk.storage.size).toBeLessThan(before * 0.8)
        expect(differ(await everything(disk), wanted)).toBe(-1)
        await disk.close()
        const again = await openImage(new FileStorage(path, { flags: 'r' }), {
          registry,
          format: 'qcow2',
          secret,
        })
        expect(differ(await everything(again), wanted)).toBe(-1)
        await again.close()
      })
    },
  )

  it('stops where it is when aborted, the image whole', async () => {
    await inDirectory(async (dir, path) => {
      await make(dir, path, kinds[3] as Kind, random(seed + 1))
      const disk = await openAt(path)
      const wanted = await everything(disk)
      const abort = new AbortController()
      let steps = 0
      const going = disk.compact?.({
        signal: abort.signal,
        onProgress: () => {
          if (++steps === 40) abort.abort(new Error('enough'))
        },
      })
      await expect(going).rejects.toThrow('enough')
      expect(differ(await everything(disk), wanted)).toBe(-1)
      await disk.close()
      assertClean('qcow2', path)
    })
  })

  it.each([kinds[1] as Kind, kinds[3] as Kind, kinds[4] as Kind])(
    'leaves leaked clusters at most wherever the power is cut: $title',
    async (kind) => {
      await inDirectory(async (dir, path) => {
        const next = random(seed + 2)
        await make(dir, path, kind, next)
        const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
        const references = besides(dir)
        const disk = await openImage(storage, { registry, format: 'qcow2', writable: true, references })
        const wanted = await everything(disk)
        await disk.compact?.()
        await disk.close()
        const barriers = storage.events.flatMap(({ kind: what }, at) =>
          what === 'flush' && at > 2 ? [at] : [],
        )
        expect(barriers.length).toBeGreaterThan(3)
        for (let i = 0; i < 20; i++) {
          const at =
            i % 4 === 0
              ? Math.floor(next() * storage.events.length)
              : (barriers[Math.floor(next() * barriers.length)] as number) - Math.floor(next() * 3)
          const share = i % 4 === 0 ? 1 : next()
          const file = storage.after(at, () => next() < share)
          writeFileSync(path, file)
          const { status, stdout } = run('qemu-img', 'check', '-f', 'qcow2', path)
          const what = `seed ${seed}, cut at ${at} of ${storage.events.length}, ${share} survives`
          expect(status === 0 || status === 3, `${what}: qemu-img check ${status}\n${stdout}`).toBe(true)
          const found = await openImage(new MemoryStorage(file), { registry, format: 'qcow2', references })
          expect(differ(await everything(found), wanted), what).toBe(-1)
        }
      })
    },
  )
})

/** What the bitmap `one` says is dirty. */
async function dirtyRanges(disk: DiskImage): Promise<unknown[]> {
  const found: unknown[] = []
  for await (const range of disk.bitmaps?.dirty?.('one') ?? []) found.push(range)
  return found
}

/** Clusters in use, and free ones before the last of them, by the refcounts in the file. */
async function usage(disk: DiskImage): Promise<{ used: number; free: number }> {
  await disk.flush?.()
  const head = new Uint8Array(104)
  await disk.storage.read(0, head)
  const view = new DataView(head.buffer)
  const clusterSize = 2 ** view.getUint32(20)
  const bits = view.getUint32(4) === 2 ? 16 : 2 ** view.getUint32(96)
  const table = new Uint8Array(view.getUint32(56) * clusterSize)
  await disk.storage.read(Number(view.getBigUint64(48)), table)
  let used = 0
  let end = 0
  const entries = (clusterSize * 8) / bits
  for (let at = 0; at < table.length; at += 8) {
    const offset = Number(new DataView(table.buffer).getBigUint64(at))
    if (offset === 0) continue
    const block = new Uint8Array(clusterSize)
    await disk.storage.read(offset, block.subarray(0, disk.storage.size - offset))
    for (let i = 0; i < entries; i++) {
      const bit = i * bits
      const count =
        bits < 8
          ? ((block[bit >> 3] as number) >> (bit & 7)) & (2 ** bits - 1)
          : block.subarray(bit / 8, (bit + bits) / 8).reduce((sum, byte) => sum * 256 + byte, 0)
      if (count === 0) continue
      used++
      end = (at / 8) * entries + i + 1
    }
  }
  return { used, free: end - used }
}
