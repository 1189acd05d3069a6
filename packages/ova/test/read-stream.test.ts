import { createHash } from 'node:crypto'
import { type ReadImageStreamOptions, readImageStream } from '@img/core'
import { describe, expect, it } from 'vitest'
import { ova } from '../src/format.js'
import { descriptor, type File, manifest, noise, rawDisks, rawUri, tar, utf8 } from './support/build.js'
import { archiveFixtures, fixtureBytes } from './support/fixtures.js'
import { registry } from './support/open.js'

async function* inChunks(bytes: Uint8Array, step: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step)
}

/** What a disk holds that comes through a pipe. */
async function read(
  bytes: Uint8Array,
  options: ReadImageStreamOptions['options'] = {},
  step = 7000,
): Promise<Uint8Array> {
  const given = { label: 'pipe', registry, options }
  const reader = await readImageStream(ova, inChunks(bytes, step), given)
  const pieces: { offset: number; bytes: Uint8Array }[] = []
  for await (const piece of reader.pieces()) pieces.push({ offset: piece.offset, bytes: piece.bytes.slice() })
  const whole = new Uint8Array(reader.finalSize())
  for (const piece of pieces) whole.set(piece.bytes, piece.offset)
  return whole
}

function refused(bytes: Uint8Array, code: string, options: Record<string, unknown> = {}): Promise<void> {
  return expect(read(bytes, options)).rejects.toMatchObject({ name: 'ImageError', code })
}

/** What a pipe cannot have: it is read once. */
const needFile = /chunked|gzip|not-first/

describe('archives in a pipe', () => {
  for (const { file, title, expect: wanted, disks = [] } of archiveFixtures) {
    it(`${file}: ${title}`, async () => {
      const bytes = fixtureBytes(file)
      if (needFile.test(file)) return refused(bytes, 'IMG_UNSUPPORTED')
      if (wanted === 'reject') {
        await expect(read(bytes)).rejects.toMatchObject({ name: 'ImageError' })
        return
      }
      for (const [index, { sha256 }] of disks.entries()) {
        for (const step of [777, 100_000]) {
          const whole = await read(bytes, { disk: String(index + 1) }, step)
          expect(createHash('sha256').update(whole).digest('hex')).toBe(sha256)
        }
      }
    })
  }

  const a: File = { name: 'a.raw', bytes: noise(3072, 1) }
  const b: File = { name: 'b.raw', bytes: noise(5120, 2) }
  const own = rawDisks([a, b])
  const changed = { ...b, bytes: b.bytes.map((byte, at) => (at === 100 ? byte ^ 1 : byte)) }

  it('are refused at their end where a digest is wrong, wherever the manifest stands', async () => {
    const mf = manifest([own, a, b])
    for (const bytes of [tar([own, mf, a, changed]), tar([own, a, changed, mf])]) {
      await refused(bytes, 'IMG_CORRUPT', { disk: '2' })
      await refused(bytes, 'IMG_CORRUPT', { disk: '1', verify: 'all' })
      expect(await read(bytes, { disk: '1' })).toEqual(a.bytes)
      expect(await read(bytes, { disk: '2', verify: 'off' })).toEqual(changed.bytes)
    }
  })

  it('are read to the end although the disk is over before', async () => {
    const bytes = tar([own, manifest([own, a, b]), a, b])
    await refused(bytes.subarray(0, bytes.length - 1024 - 600), 'IMG_TRUNCATED', { disk: '1' })
    expect(await read(bytes.subarray(0, bytes.length - 1024), { disk: '1' })).toEqual(a.bytes)
    await refused(tar([own, manifest([own, a, b]), a]), 'IMG_REFERENCE_MISSING', { disk: '1' })
    await refused(tar([own, manifest([own, a]), a, b]), 'IMG_CORRUPT', { disk: '1' })
    await refused(tar([own, manifest([a, b]), a, b]), 'IMG_CORRUPT', { disk: '1' })
    await refused(tar([own, own, a, b]), 'IMG_CORRUPT', { disk: '1' })
    await refused(tar([own, a, b, { ...own, name: 'two.ovf' }]), 'IMG_CORRUPT', { disk: '1' })
  })

  it('have an empty disk of zeros, and a disk by its name', async () => {
    const empty = descriptor(
      '<File ovf:id="f" ovf:href="a.raw"/>',
      `<Disk ovf:diskId="e" ovf:capacity="4096"/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="3072" ovf:format="${rawUri}"/>`,
    )
    const bytes = tar([empty, manifest([empty, a]), a])
    expect(await read(bytes, { disk: 'e' })).toEqual(new Uint8Array(4096))
    expect(await read(bytes)).toEqual(a.bytes)
    await refused(bytes, 'IMG_NOT_FOUND', { disk: 'x' })
    await refused(tar([{ ...empty, bytes: utf8('<a/>') }, a]), 'IMG_NOT_THIS_FORMAT')
  })

  it('need a disk of a format that comes front to back', async () => {
    const other = descriptor(
      '<File ovf:id="f" ovf:href="a.raw"/>',
      '<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="3072" ovf:format="http://host/vhd"/>',
    )
    await refused(tar([other, a]), 'IMG_UNSUPPORTED')
  })
})
