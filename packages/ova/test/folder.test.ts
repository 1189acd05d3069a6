import { content } from '@tooling/test-disks/disks'
import { describe, expect, it } from 'vitest'
import { descriptor, manifest, noise, rawDisks, rawUri, utf8 } from './support/build.js'
import { folder, openBytes } from './support/open.js'

const a = { name: 'a.raw', bytes: noise(3072, 1) }
const b = { name: 'b.raw', bytes: noise(5120, 2) }
const own = rawDisks([a, b])
const mf = manifest([own, a, b])

describe('a folder', () => {
  it('is asked for its manifest and the disk that is opened, and nothing else', async () => {
    const asked: string[] = []
    const references = folder({ 'vm.mf': mf.bytes, 'a.raw': a.bytes, 'b.raw': b.bytes }, asked)
    await using image = await openBytes(
      own.bytes,
      { references, options: { disk: '2' } },
      '/some/where/vm.ovf',
    )
    expect(image.format.name).toBe('ovf')
    expect(await content(image)).toEqual(b.bytes)
    expect(asked).toEqual(['vm.mf', 'b.raw'])
  })

  it('may have no manifest', async () => {
    const references = folder({ 'a.raw': a.bytes, 'b.raw': b.bytes })
    await using image = await openBytes(own.bytes, { references, options: { disk: '1' } }, 'vm.ovf')
    expect(await content(image)).toEqual(a.bytes)
  })

  it('is refused where a file lacks or differs', async () => {
    const files = { 'vm.mf': mf.bytes, 'a.raw': a.bytes }
    const open = (more: Record<string, Uint8Array>, options: Record<string, string>): Promise<unknown> =>
      openBytes(own.bytes, { references: folder({ ...files, ...more }), options }, 'vm.ovf')
    await expect(open({}, { disk: '2' })).rejects.toMatchObject({ code: 'IMG_REFERENCE_MISSING' })
    await expect(open({ 'b.raw': noise(5120, 3) }, { disk: '2' })).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
    await expect(open({ 'b.raw': noise(5120, 3) }, { disk: '1', verify: 'all' })).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
    await expect(open({ 'vm.mf': utf8('x') }, { disk: '1' })).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
  })

  it('is checked whole', async () => {
    const references = folder({ 'vm.mf': mf.bytes, 'a.raw': a.bytes.slice().fill(0, 0, 1) })
    await using image = await openBytes(own.bytes, { references, repair: true }, 'vm.ovf')
    const found: string[] = []
    const result = await image.check?.({ onFinding: ({ message }) => found.push(message) })
    expect(found).toEqual([
      'vm.ovf: the SHA256 digest of "a.raw" is not the one in the manifest',
      'vm.ovf: the file "b.raw" is not in the package',
    ])
    expect(result?.corruptions).toBe(2)
  })

  it('tells of itself without any file where none may be opened', async () => {
    await using image = await openBytes(own.bytes, { inspect: true }, 'vm.ovf')
    const { specific } = await image.info()
    expect(specific).toMatchObject({ disks: [{ capacity: 3072 }, { capacity: 5120 }] })
    await expect(openBytes(own.bytes, { options: { disk: '1' } }, 'vm.ovf')).rejects.toMatchObject({
      code: 'IMG_REFERENCE_DENIED',
    })
  })

  it.each([
    '../a.raw',
    '/etc/passwd',
    'sub/../../a.raw',
    'file:///etc/passwd',
    'json:{}',
    '\\\\host\\a',
    '%2e%2e/a.raw',
  ])('never asks for %j', async (href) => {
    const asked: string[] = []
    const bad = descriptor(
      `<File ovf:id="f" ovf:href="${href}"/>`,
      `<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="3072" ovf:format="${rawUri}"/>`,
    )
    const options = { references: folder({ [href]: a.bytes }, asked) }
    await expect(openBytes(bad.bytes, options, 'vm.ovf')).rejects.toMatchObject({
      code: 'IMG_REFERENCE_DENIED',
    })
    expect(asked.filter((name) => name !== 'vm.mf')).toEqual([])
  })
})
