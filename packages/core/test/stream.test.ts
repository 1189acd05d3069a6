import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { BlockDevice } from '../src/block.js'
import type { Format } from '../src/format.js'
import { type StreamOptions, streamImage } from '../src/jobs/stream.js'
import type { Progress } from '../src/jobs/types.js'
import { openImage } from '../src/open.js'
import { memoryStorage } from '../src/storage/memory.js'
import { expectCode } from './storage-contract.js'
import { checkProgress, converted } from './support/convert.js'
import { deviceOf, extentOf, flat, join, pattern, readAll } from './support/disks.js'
import { expectBytes, extentsOf } from './support/extents.js'
import { toy } from './toy-format.js'

async function streamed(
  source: BlockDevice,
  options: StreamOptions = {},
): Promise<{ bytes: Uint8Array; progress: Progress[] }> {
  const parts: Uint8Array[] = []
  const progress: Progress[] = []
  const sink = {
    label: 'pipe',
    async write(bytes: Uint8Array) {
      await Promise.resolve()
      parts.push(bytes.slice())
    },
  }
  await streamImage(toy, source, sink, { ...options, onProgress: (now) => void progress.push(now) })
  return { bytes: join(...parts), progress }
}

describe('streamImage', () => {
  it('writes any disk in one pass', async () => {
    const parts = fc.array(
      fc.tuple(
        fc.constantFrom('data' as const, 'zeroData' as const, 'zero' as const, 'unallocated' as const),
        fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constantFrom(65536, 600_000)),
      ),
      { maxLength: 6 },
    )
    const options = fc.record({
      cluster: fc.constantFrom('512', '4k', '64k'),
      sparse: fc.constantFrom(0, 4096, undefined),
    })
    await fc.assert(
      fc.asyncProperty(parts, options, async (parts, { cluster, sparse }) => {
        let at = 0
        const extents = parts.map(([kind, length]) => {
          at += length
          return extentOf(at - length, length, kind === 'zeroData' ? 'data' : kind)
        })
        const content = join(
          ...parts.map(([kind, length], i) =>
            kind === 'data' ? pattern(length, i) : new Uint8Array(length),
          ),
        )
        const { bytes, progress } = await streamed(deviceOf(content, extents), {
          options: { cluster_size: cluster },
          sparse,
        })
        const disk = await openImage(memoryStorage(bytes), { format: toy })
        expectBytes(await readAll(disk), content)
        checkProgress(progress, content.length, 'copy')
        if (sparse === 0) expect((await extentsOf(disk)).every(({ kind }) => kind === 'data')).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('reads the data once to know it and once to write it', async () => {
    const content = join(pattern(8192), new Uint8Array(65536), pattern(4096))
    let read = 0
    const device = deviceOf(content, [
      extentOf(0, 40_000, 'data'),
      extentOf(40_000, 33_728, 'zero'),
      extentOf(73_728, 4096, 'data'),
    ])
    const counting: BlockDevice = {
      ...device,
      async read(offset, into, options) {
        read += into.length
        await device.read(offset, into, options)
      },
    }
    const { bytes, progress } = await streamed(counting)
    expect(bytes.length).toBe(4096 + 3 * 4096)
    // What the zeros share a cluster with is read too.
    expect(read).toBe(40_960 + 4096 + 3 * 4096)
    checkProgress(progress, content.length, 'scan')
  })

  it('follows a chain', async () => {
    const base = (await converted(deviceOf(pattern(9000, 4)), toy)).file
    const { disk } = await converted(deviceOf(pattern(5000)), toy, { base })
    expectBytes(
      await readAll(await openImage(memoryStorage((await streamed(disk)).bytes), { format: toy })),
      pattern(5000),
    )
  })

  it('is refused by a format that cannot, and with options it does not have', async () => {
    const sink = { label: 'pipe', write: () => expect.unreachable() }
    const source = deviceOf(pattern(512))
    const error = await expectCode(() => streamImage(flat, source, sink), 'IMG_UNSUPPORTED')
    expect(error).toMatchObject({ format: 'raw', hint: 'write it to a file' })
    await expectCode(
      () => streamImage(toy, source, sink, { options: { cluster_size: '3' } }),
      'IMG_BAD_OPTION',
    )
  })

  it('cannot have other files', async () => {
    const format: Format = {
      ...toy,
      async stream(_sink, _source, _spec, context) {
        context.warn('careful')
        await context.createReference({ kind: 'data', name: 'disk.data' })
      },
    }
    const warnings: string[] = []
    const sink = { label: 'pipe', write: () => expect.unreachable() }
    const error = await expectCode(
      () =>
        streamImage(format, deviceOf(pattern(512)), sink, { onWarning: (text) => void warnings.push(text) }),
      'IMG_REFERENCE_DENIED',
    )
    expect(error.hint).toContain('pipe')
    expect(warnings).toEqual(['careful'])
  })

  it('passes on what goes wrong at either end', async () => {
    const lost = new Error('lost')
    const source = { ...deviceOf(pattern(5000)), read: () => Promise.reject(lost) }
    await expect(streamed(source)).rejects.toBe(lost)
    const sink = { label: 'pipe', write: () => Promise.reject(lost) }
    await expect(streamImage(toy, deviceOf(pattern(5000)), sink)).rejects.toBe(lost)
  })
})
