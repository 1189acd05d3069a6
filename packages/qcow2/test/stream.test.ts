import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ImageError, streamImage } from '@img/core'
import { content, openRaw, patternDisk } from '@tooling/test-disks/disks'
import { assertClean, assertSame, hasQemu } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { afterAll, describe, expect, it } from 'vitest'
import { qcow2 } from '../src/format.js'
import { openQcow2 } from './support/disks.js'

const folder = mkdtempSync(join(tmpdir(), 'qcow2-stream-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

class Pipe {
  readonly label = 'pipe'
  readonly parts: Uint8Array[] = []
  longest = 0

  async write(bytes: Uint8Array): Promise<void> {
    await Promise.resolve()
    this.longest = Math.max(this.longest, bytes.length)
    this.parts.push(bytes.slice())
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.parts))
  }
}

async function stream(
  disk: Uint8Array,
  options: Record<string, string>,
  compress: boolean,
  sparse = 4096,
): Promise<Pipe> {
  const pipe = new Pipe()
  await using source = await openRaw(disk)
  await streamImage(qcow2, source, pipe, { options, compress, sparse })
  return pipe
}

describe('an image written forward only', () => {
  const cases: [Record<string, string>, boolean, number][] = [
    ...['512', '4k', '64k', '2M'].flatMap((cluster_size) =>
      [false, true].map((compress): [Record<string, string>, boolean, number] => [
        { cluster_size },
        compress,
        2_500_608,
      ]),
    ),
    ...['1', '2', '8', '64'].flatMap((refcount_bits) =>
      [false, true].map((compress): [Record<string, string>, boolean, number] => [
        { refcount_bits, cluster_size: '512' },
        compress,
        1_500_160,
      ]),
    ),
    [{ compat: '0.10' }, true, 2_500_608],
    [{ extended_l2: 'on' }, false, 2_500_608],
    [{ compression_type: 'zstd', extended_l2: 'on' }, true, 2_500_608],
    [{}, false, 0],
    [{}, true, 0],
    [{}, false, 1000],
    [{}, true, 1000],
    [{ lazy_refcounts: 'on' }, false, 6_000_000],
  ]
  cases.forEach(([options, compress, size], index) => {
    it(`${JSON.stringify(options)}${compress ? ' -c' : ''} size=${size}`, async () => {
      const disk = patternDisk(size, index + 100, 60_000)
      const bytes = (await stream(disk, options, compress)).bytes()
      await using image = await openQcow2(new MemoryStorage(bytes))
      const rounded = new Uint8Array(Math.ceil(size / 512) * 512)
      rounded.set(disk)
      expect(Buffer.compare(await content(image), rounded)).toBe(0)
      expect(bytes.length % image.clusterSize).toBe(0)
      if (!hasQemu) return
      const path = join(folder, `${index}.qcow2`)
      writeFileSync(path, bytes)
      writeFileSync(join(folder, `${index}.raw`), disk)
      assertClean('qcow2', path)
      assertSame('qcow2', join(folder, `${index}.raw`), path)
    })
  })

  it('gives the sink pieces of at most 1 MiB', async () => {
    const pipe = await stream(patternDisk(5_000_192, 3), {}, false)
    expect(pipe.longest).toBeLessThanOrEqual(1024 * 1024)
    expect(pipe.parts.length).toBeGreaterThan(2)
  })

  it('keeps zeros where they are asked for', async () => {
    const pipe = await stream(new Uint8Array(1024 * 1024), {}, false, 0)
    expect(pipe.bytes().length).toBeGreaterThan(1024 * 1024)
  })

  for (const options of [{ backing_file: 'x' }, { preallocation: 'full' }, { data_file: 'x' }]) {
    it(`${Object.keys(options)}: refused`, async () => {
      const failed = await stream(new Uint8Array(512), options, false).catch((error) => error)
      expect(ImageError.is(failed, 'IMG_BAD_OPTION')).toBe(true)
    })
  }

  it('fails where the sink fails', async () => {
    await using source = await openRaw(patternDisk(4_000_256))
    const sink = { label: 'broken', write: () => Promise.reject(new Error('broken pipe')) }
    await expect(streamImage(qcow2, source, sink, {})).rejects.toThrow('broken pipe')
  })
})
