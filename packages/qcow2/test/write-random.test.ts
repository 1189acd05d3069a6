import { hasQemu } from '@tooling/test-disks/qemu'
import { describe, it } from 'vitest'
import { type WriteCase, WriteRun } from './support/write-run.js'

const MB = 1024 * 1024
const cases: readonly WriteCase[] = [
  { title: '64 KiB clusters', options: 'compat=1.1', size: 7 * MB + 512 },
  { title: 'version 2', options: 'compat=0.10', size: 5 * MB },
  { title: '512-byte clusters', options: 'cluster_size=512', size: MB },
  {
    title: '4 KiB clusters, refcounts of 1 bit',
    options: 'cluster_size=4k,refcount_bits=1',
    size: 2 * MB,
    noSnapshots: true,
  },
  { title: '4 KiB clusters, refcounts of 2 bits', options: 'cluster_size=4k,refcount_bits=2', size: 2 * MB },
  {
    title: '512-byte clusters, refcounts of 64 bits',
    options: 'cluster_size=512,refcount_bits=64',
    size: MB,
  },
  { title: 'refcounts of 8 bits, lazy', options: 'refcount_bits=8,lazy_refcounts=on', size: 5 * MB },
  { title: '2 MiB clusters', options: 'cluster_size=2M', size: 13 * MB },
  { title: 'extended L2', options: 'extended_l2=on', size: 5 * MB + 512 },
  {
    title: 'extended L2, backing file',
    options: 'extended_l2=on,cluster_size=16k',
    size: 3 * MB,
    backing: true,
  },
  { title: 'backing file', options: 'cluster_size=4k', size: 2 * MB, backing: true },
  { title: 'version 2, backing file', options: 'compat=0.10', size: 4 * MB, backing: true },
  { title: 'preallocated', options: 'preallocation=metadata', size: 4 * MB },
  { title: 'compressed', options: 'cluster_size=64k', size: 4 * MB, compressed: true },
  {
    title: 'compressed with extended L2',
    options: 'extended_l2=on,compression_type=zstd',
    size: 4 * MB,
    compressed: true,
  },
  { title: 'data file', options: 'cluster_size=64k', size: 4 * MB, dataFile: true, noSnapshots: true },
  { title: 'raw data file', options: 'data_file_raw=on', size: 4 * MB, dataFile: true, noSnapshots: true },
]

const seed = Number(process.env.IMG_TEST_SEED ?? 20_261)
const steps = Number(process.env.IMG_TEST_STEPS ?? 14)

describe.skipIf(!hasQemu)('random changes, judged by QEMU (skipped without qemu-img)', () => {
  for (const [index, testCase] of cases.entries()) {
    it(testCase.title, async () => {
      const run = new WriteRun(testCase, seed + index)
      try {
        for (let step = 0; step < steps; step++) {
          for (let i = 0; i < 4; i++) await change(run)
          await run.judge()
        }
      } catch (error) {
        throw new Error(`IMG_TEST_SEED=${seed}: ${(error as Error).message}\n${run.log.join('\n')}`, {
          cause: error,
        })
      } finally {
        await run.close()
        run.remove()
      }
    })
  }
})

async function change(run: WriteRun): Promise<void> {
  const pick = run.next()
  if (pick < 0.4) return run.write()
  if (pick < 0.5) return run.writeZeroes()
  if (pick < 0.6) return run.discard()
  if (pick < 0.7) return run.qemuWrite()
  if (pick < 0.78) return run.resize()
  if (pick < 0.92) return run.snapshot()
  await run.disk?.flush?.()
}
