import { createRegistry, ImageError, measure, openImage } from '@img/core'
import { hasQemu, run } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { fixtureBytes, fixtures } from './support/fixtures.js'

const sizes = ['0', '1', '512', '64k', '1M', '10000000', '1G', '1T', '100G', '63T']
const options: Record<string, string>[] = [
  {},
  { cluster_size: '512' },
  { cluster_size: '4k' },
  { cluster_size: '2M' },
  { refcount_bits: '1' },
  { refcount_bits: '64', cluster_size: '512' },
  { extended_l2: 'on' },
  { preallocation: 'full' },
  { preallocation: 'falloc', cluster_size: '4k' },
  { preallocation: 'metadata' },
  { compat: '0.10' },
]

describe('measure of an empty disk', () => {
  it('takes what the tables of 10 MiB take', async () => {
    expect(await measure(qcow2, { size: 10485760 })).toEqual({ required: 327680, fullyAllocated: 10813440 })
  })

  describe.skipIf(!hasQemu)('is qemu-img’s', () => {
    for (const given of options) {
      const list = Object.entries(given).map(([name, value]) => `${name}=${value}`)
      it(list.join() || 'defaults', async () => {
        for (const size of sizes) {
          const args = ['measure', '--size', size, '-O', 'qcow2', '--output=json']
          const theirs = run('qemu-img', ...args, ...(list.length > 0 ? ['-o', list.join()] : []))
          const bytes =
            Number(/^\d+/.exec(size)) * 1024 ** ' kMGT'.indexOf(size.at(-1)?.match(/[kMGT]/)?.[0] ?? ' ')
          const ours = await measure(qcow2, { size: bytes }, { options: given }).catch((error) => error)
          if (theirs.status !== 0) {
            expect(ImageError.is(ours, 'IMG_UNSUPPORTED_SIZE'), size).toBe(true)
            expect(theirs.stderr).toContain(ours.message)
          } else {
            const json = JSON.parse(theirs.stdout)
            expect(ours, size).toEqual({ required: json.required, fullyAllocated: json['fully-allocated'] })
          }
        }
      })
    }
  })
})

describe('measure of the data of an image is qemu-img’s', () => {
  const registry = createRegistry([qcow2])
  for (const fixture of fixtures) {
    const json = fixture.measure?.qcow2?.json
    // Backing files that are raw files have holes that only the host knew of.
    if (!json || fixture.expect !== 'ok' || fixture.secrets || fixture.info?.json?.['backing-filename'])
      continue
    if (fixture.info?.json?.['format-specific'] === undefined || (fixture.files?.length ?? 1) > 1) continue
    // Nor is it known here that its clusters are holes of the host.
    if (fixture.file === 'qcow2-prealloc-metadata.qcow2') continue
    it(fixture.file, async () => {
      await using image = await openImage(new MemoryStorage(fixtureBytes(fixture.file)), { registry })
      const { specific } = await image.info()
      const bitmaps = specific?.compat === '1.1' ? ((specific?.bitmaps ?? []) as []) : undefined
      const ours = await qcow2.measure?.({
        size: image.size,
        options: { cluster_size: 65536, compat: '1.1', refcount_bits: 16, preallocation: 'off' },
        async *dataRanges(unit) {
          let end = 0
          for await (const { kind, offset, length } of image.extents()) {
            if (kind !== 'data' && kind !== 'compressed') continue
            const start = Math.max(end, offset - (offset % unit))
            end = Math.max(start, Math.ceil((offset + length) / unit) * unit)
            if (end > start) yield { offset: start, length: end - start }
          }
        },
        bitmaps,
      })
      expect(ours?.fullyAllocated).toBe(json['fully-allocated'])
      expect(ours?.bitmaps).toBe(json.bitmaps)
      expect(ours?.required).toBe(json.required)
    })
  }
})
