import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openImage } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import { PowerStorage } from './support/power.js'

const MB = 1024 * 1024
const cases = [
  { title: '64 KiB clusters', options: ['-o', 'compat=1.1'], size: 4 * MB },
  {
    title: '64 KiB clusters shared with a snapshot',
    options: ['-o', 'compat=1.1'],
    size: 4 * MB,
    snapshot: true,
  },
  {
    title: '512-byte clusters, 64-bit refcounts',
    options: ['-o', 'cluster_size=512,refcount_bits=64'],
    size: MB,
  },
  { title: 'version 2', options: ['-o', 'compat=0.10,cluster_size=4k'], size: 2 * MB, snapshot: true },
  { title: 'extended L2, shared', options: ['-o', 'extended_l2=on'], size: 4 * MB, snapshot: true },
  { title: 'compressed', options: ['-c', '-o', 'cluster_size=16k'], size: 2 * MB },
]

/** What must hold from event `at` on: the content then, and what may have changed since. */
interface Mark {
  readonly at: number
  readonly model: Uint8Array
  readonly touched: Uint8Array
}

describe.skipIf(!hasQemu)('power cuts (skipped without qemu-img)', () => {
  for (const [index, { title, options, size, snapshot }] of cases.entries()) {
    it(`leave leaked clusters at most: ${title}`, async () => {
      const seed = Number(process.env.IMG_TEST_SEED ?? 4711) + index
      const next = random(seed)
      const dir = mkdtempSync(join(tmpdir(), 'qcow2-power-'))
      const path = join(dir, 'disk.qcow2')
      try {
        const model = patternDisk(size, seed, 400_000)
        writeFileSync(join(dir, 'start.raw'), model)
        run('qemu-img', 'convert', '-O', 'qcow2', ...options, join(dir, 'start.raw'), path)
        if (snapshot) run('qemu-img', 'snapshot', '-c', 'one', path)
        const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
        const marks = await changeAtRandom(storage, model, next)
        const barriers = storage.events.flatMap(({ kind }, at) => (kind === 'flush' && at > 2 ? [at] : []))
        expect(barriers.length).toBeGreaterThan(10)
        for (let i = 0; i < 30; i++) {
          // Anywhere, with all that was written; or around a barrier, where what was not flushed may be lost.
          const anywhere = i % 3 === 0
          const at = anywhere
            ? Math.floor(next() * (storage.events.length + 1))
            : (barriers[Math.floor(next() * barriers.length)] as number) - Math.floor(next() * 3)
          const share = anywhere ? 1 : next()
          const file = storage.after(at, () => next() < share)
          writeFileSync(path, file)
          const { status, stdout } = run('qemu-img', 'check', '-f', 'qcow2', path)
          const what = `seed ${seed}, cut at ${at} of ${storage.events.length}, ${share} survives`
          expect(status === 0 || status === 3, `${what}: qemu-img check ${status}\n${stdout}`).toBe(true)
          const mark = marks.filter((m) => m.at <= at).at(-1) as Mark
          const found = await read(file)
          const bad = firstLost(found, mark)
          expect(bad, `${what}: flushed data at ${bad} is lost`).toBe(-1)
        }
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    })
  }
})

/** The first byte that is not what it was when it was flushed, though nothing changed it since; -1 without one. */
function firstLost(found: Uint8Array, { model, touched }: Mark): number {
  const step = 4096
  for (let at = 0; at < found.length; at += step) {
    const end = Math.min(found.length, at + step)
    if (Buffer.compare(found.subarray(at, end), model.subarray(at, end)) === 0) continue
    for (let i = at; i < end; i++) if (found[i] !== model[i] && touched[i] === 0) return i
  }
  return -1
}

async function read(file: Uint8Array): Promise<Uint8Array> {
  return content(await openImage(new MemoryStorage(file), { registry, format: 'qcow2' }))
}

async function changeAtRandom(storage: PowerStorage, model: Uint8Array, next: () => number): Promise<Mark[]> {
  const disk = await openImage(storage, { registry, format: 'qcow2', writable: true })
  const { length: size } = model
  const mark = (): Mark => ({
    at: storage.events.length,
    model: model.slice(),
    touched: new Uint8Array(size),
  })
  const marks = [mark()]
  for (let i = 0; i < 60; i++) {
    if (i % 5 === 4) {
      await disk.flush?.()
      marks.push(mark())
      continue
    }
    const offset = Math.floor(next() * size)
    const length = Math.min(size - offset, Math.floor(next() ** 3 * 600_000) + 1)
    const bytes = new Uint8Array(length).fill(1 + (i % 250))
    marks.at(-1)?.touched.fill(1, offset, offset + length)
    const pick = next()
    if (pick < 0.6) await disk.write?.(offset, bytes)
    else if (pick < 0.8) await disk.writeZeroes?.(offset, length)
    else await disk.discard?.(offset, length)
    if (pick < 0.6) model.set(bytes, offset)
    else if (pick < 0.8) model.fill(0, offset, offset + length)
    else model.set((await content(disk)).subarray(offset, offset + length), offset)
  }
  await disk.close()
  marks.push(mark())
  return marks
}
