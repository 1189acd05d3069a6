import { readFileSync, writeFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { assertClean, hasQemu, must } from '@tooling/test-disks/qemu'
import { describe, expect, it } from 'vitest'
import { inDirectory, openAt } from './support/on-disk.js'

const MB = 1024 * 1024
const fixture = new URL('fixtures/qcow2-snap-vmstate.qcow2.gz', import.meta.url)

describe.skipIf(!hasQemu)('growing over VM state (skipped without qemu-img)', () => {
  it.each([10 * MB, 900 * MB])(
    'shows zeros where QEMU left VM state behind the disk: %i bytes',
    async (size) => {
      await inDirectory(async (_, path) => {
        writeFileSync(path, gunzipSync(readFileSync(fixture)))
        must('qemu-img', 'snapshot', '-a', 'vm-one', path)
        const disk = await openAt(path)
        await disk.resize?.(size)
        await disk.close()
        assertClean('qcow2', path)
        const extents = JSON.parse(must('qemu-img', 'map', '--output=json', path))
        const last = extents.at(-1)
        expect(last).toMatchObject({ data: false, zero: true })
        expect(last.start).toBeLessThan(2 * MB)
        // The snapshot still has it.
        must('qemu-img', 'snapshot', '-a', 'vm-one', path)
        assertClean('qcow2', path)
      })
    },
  )
})
