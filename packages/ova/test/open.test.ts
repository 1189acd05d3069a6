import { gzipSync } from 'node:zlib'
import { type DiskImage, memoryStorage, openImage } from '@img/core'
import { content } from '@tooling/test-disks/disks'
import { describe, expect, it } from 'vitest'
import { descriptor, type File, manifest, noise, rawDisks, rawUri, sha, tar, utf8 } from './support/build.js'
import { openBytes, registry } from './support/open.js'

const a: File = { name: 'a.raw', bytes: noise(3072, 1) }
const b: File = { name: 'b.raw', bytes: noise(5120, 2) }

/** The same with one byte changed. */
function changedAt(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.map((byte, i) => (i === at ? byte ^ 0x21 : byte))
}

/** An archive with a manifest of all. */
function packed(own: File, ...files: File[]): Uint8Array {
  return tar([own, manifest([own, ...files]), ...files])
}

async function read(image: DiskImage): Promise<Uint8Array> {
  await using opened = image
  return await content(opened)
}

function refused(bytes: Uint8Array, code: string, options: Record<string, unknown> = {}): Promise<void> {
  return expect(openBytes(bytes, { options }).then(read)).rejects.toMatchObject({ name: 'ImageError', code })
}

describe('a disk of several', () => {
  const two = packed(rawDisks([a, b]), a, b)

  it.each([
    ['1', a],
    ['2', b],
    ['d0', a],
    ['d1', b],
    ['b.raw', b],
  ])('is found as %s', async (disk, file) => {
    expect(await read(await openBytes(two, { options: { disk } }))).toEqual(file.bytes)
  })

  it('has to be named, and to be there', async () => {
    await refused(two, 'IMG_BAD_OPTION')
    for (const disk of ['0', '3', 'x', '', '../a.raw']) await refused(two, 'IMG_NOT_FOUND', { disk })
  })

  it('is no matter for information, which lists them all', async () => {
    await using image = await openBytes(two, { inspect: true })
    expect(image.size).toBe(8192)
    const { specific } = await image.info()
    expect(specific).toMatchObject({
      disks: [
        { number: 1, id: 'd0', file: 'a.raw', capacity: 3072, format: 'raw', 'virtual-size': 3072 },
        { number: 2, id: 'd1', file: 'b.raw', capacity: 5120, format: 'raw', 'virtual-size': 5120 },
      ],
      manifest: {
        file: 'vm.mf',
        algorithm: 'SHA256',
        verified: ['vm.ovf'],
        'not-verified': ['a.raw', 'b.raw'],
      },
    })
  })

  it('is taken without a name where all others are empty, which is told', async () => {
    const own = descriptor(
      '<File ovf:id="f" ovf:href="a.raw"/>',
      `<Disk ovf:diskId="e" ovf:capacity="4096"/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="3072" ovf:format="${rawUri}"/>`,
    )
    const warnings: string[] = []
    const bytes = packed(own, a)
    const image = await openBytes(bytes, { onWarning: (...told) => warnings.push(told.join(' ')) })
    expect(await read(image)).toEqual(a.bytes)
    expect(warnings.join()).toMatch(/disk 2.* WARN_CHOSEN$/)
    await using empty = await openBytes(bytes, { options: { disk: 'e' } })
    expect(await content(empty)).toEqual(new Uint8Array(4096))
    for await (const { kind } of empty.extents()) expect(kind).toBe('unallocated')
  })

  it('is opened where it stands: its bytes are those of the archive', async () => {
    await using image = await openBytes(two, { options: { disk: '2' } })
    for await (const extent of image.extents())
      expect(extent).toMatchObject({ kind: 'data', offset: 0, length: 5120, hostOffset: 0 })
    await expect(
      openBytes(two, { options: { disk: '2' }, writable: true, format: 'ova' }),
    ).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
    })
  })
})

describe('the manifest', () => {
  const own = rawDisks([a, b])
  const changed = { ...b, bytes: changedAt(b.bytes, 5119) }
  const bad = tar([own, manifest([own, a, b]), a, changed])

  it('refuses a disk that was changed, and gives none of its bytes', async () => {
    await refused(bad, 'IMG_CORRUPT', { disk: '2' })
    expect(await read(await openBytes(bad, { options: { disk: '1' } }))).toEqual(a.bytes)
    await refused(bad, 'IMG_CORRUPT', { disk: '1', verify: 'all' })
    await expect(openBytes(bad, { inspect: true, options: { verify: 'all' } })).rejects.toMatchObject({
      code: 'IMG_CORRUPT',
    })
  })

  it('is left alone with verify=off, and warned of in salvage', async () => {
    expect(await read(await openBytes(bad, { options: { disk: '2', verify: 'off' } }))).toEqual(changed.bytes)
    const ovf = tar([own, manifest([{ ...own, bytes: utf8('x') }, a, b]), a, b])
    await refused(ovf, 'IMG_CORRUPT', { disk: '1' })
    const warnings: string[] = []
    const options = { disk: '1' }
    const image = await openBytes(ovf, { salvage: true, options, onWarning: (text) => warnings.push(text) })
    expect(await read(image)).toEqual(a.bytes)
    expect(warnings.join()).toContain('vm.ovf')
  })

  it('may have another name than the descriptor, where it is the only one', async () => {
    const file = { ...manifest([own, a, { ...b, bytes: utf8('') }]), name: 'other.mf' }
    await refused(tar([own, file, a, b]), 'IMG_CORRUPT', { disk: '2' })
  })

  it('may come with a certificate, which is told of and not checked', async () => {
    const bytes = tar([own, manifest([own, a, b]), { name: 'vm.cert', bytes: utf8('x') }, a, b])
    await using image = await openBytes(bytes, { inspect: true })
    const { specific } = await image.info()
    expect(specific).toMatchObject({ certificate: { file: 'vm.cert', checked: false } })
  })

  it('is what check compares everything with', async () => {
    const check = async (bytes: Uint8Array): Promise<unknown> => {
      await using image = await openBytes(bytes, { repair: true, format: 'ova' })
      const findings: string[] = []
      const result = await image.check?.({
        onFinding: ({ kind, message }) => findings.push(`${kind}: ${message}`),
      })
      return [result, ...findings]
    }
    expect(await check(packed(own, a, b))).toEqual([{ checkErrors: 0, corruptions: 0, leaks: 0 }])
    expect(await check(bad)).toEqual([
      { checkErrors: 0, corruptions: 1, leaks: 0 },
      'corruption: x.ova: the SHA256 digest of "b.raw" is not the one in the manifest',
    ])
    expect(await check(tar([own, a]))).toEqual([
      { checkErrors: 0, corruptions: 1, leaks: 0 },
      'corruption: x.ova: the file "b.raw" is not in the package',
    ])
  })
})

describe('a disk in chunks', () => {
  const bytes = noise(2560, 3)
  const chunk = (index: number, from: number, to: number): File => ({
    name: `a.raw.${String(index).padStart(9, '0')}`,
    bytes: bytes.subarray(from, to),
  })
  const own = (more = 'ovf:size="2560"'): File =>
    descriptor(
      `<File ovf:id="f" ovf:href="a.raw" ovf:chunkSize="1000" ${more}/>`,
      `<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="2560" ovf:format="${rawUri}"/>`,
    )
  const chunks = [chunk(0, 0, 1000), chunk(1, 1000, 2000), chunk(2, 2000, 2560)]

  it.each(['ovf:size="2560"', ''])('is read as one, %j told', async (size) => {
    expect(await read(await openBytes(packed(own(size), ...chunks)))).toEqual(bytes)
  })

  it('is refused with a chunk missing, too small, too large, or changed', async () => {
    const [one, two, three] = chunks as [File, File, File]
    await refused(packed(own(), one, two), 'IMG_REFERENCE_MISSING')
    await refused(packed(own(), two, three), 'IMG_REFERENCE_MISSING')
    await refused(packed(own(), one, three, chunk(2, 1000, 2000)), 'IMG_CORRUPT')
    await refused(packed(own(), one, two, { ...three, bytes: noise(1001) }), 'IMG_CORRUPT')
    await refused(packed(own(), one, { ...two, bytes: noise(999) }, three), 'IMG_CORRUPT')
    await refused(
      tar([own(), manifest([own(), ...chunks]), one, two, { ...three, bytes: noise(560, 9) }]),
      'IMG_CORRUPT',
    )
    await refused(tar([own(), manifest([own(), one, two]), ...chunks]), 'IMG_CORRUPT')
    const many = own('ovf:size="9007199254740991"')
    await refused(packed(many, ...chunks), 'IMG_REFERENCE_MISSING')
  })
})

describe('a disk that was compressed whole', () => {
  const own = (kind: string, capacity = 5120): File =>
    descriptor(
      `<File ovf:id="f" ovf:href="b.gz" ovf:compression="${kind}"/>`,
      `<Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="${capacity}" ovf:format="${rawUri}"/>`,
    )
  const stored = { name: 'b.gz', bytes: new Uint8Array(gzipSync(b.bytes)) }

  it('is decompressed', async () => {
    expect(await read(await openBytes(packed(own('gzip'), stored)))).toEqual(b.bytes)
    const large = new Uint8Array(5 * 2 ** 20 + 1536)
    large.set(noise(70_000), 3 * 2 ** 20 - 5)
    const zeros = { name: 'b.gz', bytes: new Uint8Array(gzipSync(large)) }
    expect(Buffer.compare(await read(await openBytes(packed(own('gzip', large.length), zeros))), large)).toBe(
      0,
    )
  })

  it('is refused where it is damaged, cut, empty, or of another kind', async () => {
    const bytes = stored.bytes
    await refused(packed(own('gzip'), { ...stored, bytes: changedAt(bytes, 40) }), 'IMG_CORRUPT')
    await refused(
      packed(own('gzip'), { ...stored, bytes: bytes.subarray(0, bytes.length - 9) }),
      'IMG_CORRUPT',
    )
    await refused(packed(own('gzip'), { ...stored, bytes: utf8('') }), 'IMG_CORRUPT')
    await refused(packed(own('gzip'), { ...stored, bytes: b.bytes }), 'IMG_CORRUPT')
    await refused(packed(own('bzip2'), stored), 'IMG_UNSUPPORTED')
  })

  it('is refused where it grows beyond its capacity', async () => {
    const bomb = { name: 'b.gz', bytes: new Uint8Array(gzipSync(new Uint8Array(30 * 2 ** 20))) }
    await refused(packed(own('gzip'), bomb), 'IMG_CORRUPT')
  })
})

describe('other packages', () => {
  const file = '<File ovf:id="f" ovf:href="a.raw"/>'
  const disk = (more: string): string => `<Disk ovf:diskId="d" ovf:fileRef="f" ${more}/>`

  it('are refused where a disk is a delta, a package, larger than it may be, or of no known format', async () => {
    await refused(
      packed(descriptor(file, disk(`ovf:capacity="3072" ovf:parentRef="p" ovf:format="${rawUri}"`)), a),
      'IMG_UNSUPPORTED',
    )
    await refused(packed(descriptor(file, disk('ovf:capacity="3072"')), a), 'IMG_UNSUPPORTED')
    await refused(
      packed(descriptor(file, disk(`ovf:capacity="2560" ovf:format="${rawUri}"`)), a),
      'IMG_CORRUPT',
    )
    const inner = { name: 'a.raw', bytes: packed(rawDisks([b]), b) }
    await refused(packed(descriptor(file, disk('ovf:capacity="99999999"')), inner), 'IMG_UNSUPPORTED')
  })

  it('may lack what is no disk, and name what is elsewhere', async () => {
    const own = descriptor(
      `${file}<File ovf:id="i" ovf:href="cd.iso"/><File ovf:id="u" ovf:href="https://host/x"/>`,
      disk(`ovf:capacity="3072" ovf:format="${rawUri}"`),
    )
    expect(await read(await openBytes(packed(own, a)))).toEqual(a.bytes)
    const elsewhere = descriptor('<File ovf:id="f" ovf:href="https://host/x"/>', disk('ovf:capacity="3072"'))
    await refused(packed(elsewhere), 'IMG_REFERENCE_DENIED')
  })

  it('may write names as URLs do', async () => {
    const named = { name: 'my disk.raw', bytes: a.bytes }
    const own = descriptor(
      '<File ovf:id="f" ovf:href="my%20disk.raw"/>',
      disk(`ovf:capacity="3072" ovf:format="${rawUri}"`),
    )
    expect(await read(await openBytes(packed(own, named)))).toEqual(a.bytes)
    for (const href of ['%2e%2e/a.raw', '%2Fetc%2Fpasswd', '../a.raw', '/etc/passwd']) {
      const bad = descriptor(`<File ovf:id="f" ovf:href="${href}"/>`, disk('ovf:capacity="3072"'))
      await refused(packed(bad, a), 'IMG_REFERENCE_DENIED')
    }
  })

  it('hold one descriptor, whatever macOS put beside it', async () => {
    const own = rawDisks([a])
    const beside = { name: './._vm.ovf', bytes: utf8('attributes') }
    expect(await read(await openBytes(tar([own, beside, a])))).toEqual(a.bytes)
    await refused(tar([own, { ...own, name: 'other.ovf' }, a]), 'IMG_CORRUPT')
  })

  it('are refused with a descriptor or a manifest beyond all size', async () => {
    const huge = { name: 'vm.ovf', bytes: new Uint8Array(9 * 2 ** 20).fill(0x20) }
    await refused(tar([huge]), 'IMG_CORRUPT')
    const lines = { name: 'vm.mf', bytes: new Uint8Array(5 * 2 ** 20).fill(0x0a) }
    await refused(tar([rawDisks([a]), lines, a]), 'IMG_CORRUPT')
  })

  it('of other formats are not taken for these', async () => {
    const text = memoryStorage(utf8('<html><Envelope></html>'), { readOnly: true, label: 'x.html' })
    await expect(openImage(text, { registry })).resolves.toMatchObject({ format: { name: 'raw' } })
    const other = memoryStorage(tar([{ name: 'notes.txt', bytes: utf8('x') }]), {
      readOnly: true,
      label: 'x.tar',
    })
    await expect(openImage(other, { registry })).resolves.toMatchObject({ format: { name: 'raw' } })
    await expect(openBytes(noise(4096), { format: 'ova' })).rejects.toMatchObject({
      code: 'IMG_NOT_THIS_FORMAT',
    })
    await expect(openBytes(new Uint8Array(0), { format: 'ovf' })).rejects.toMatchObject({
      code: 'IMG_NOT_THIS_FORMAT',
    })
  })

  it('are known by their content, whatever their name', async () => {
    const own = rawDisks([a])
    await expect(openBytes(packed(own, a), {}, 'x.bin')).resolves.toMatchObject({ format: { name: 'ova' } })
    await expect(openBytes(own.bytes, { inspect: true }, 'x.bin')).resolves.toMatchObject({
      format: { name: 'ovf' },
    })
    const long = utf8(`<?xml version="1.0"?>${'<!-- -->'.repeat(2000)}<ovf:Envelope >`)
    await expect(openBytes(long, { inspect: true }, 'x.bin')).rejects.toMatchObject({ format: 'ova' })
  })
})

describe('damage', () => {
  it('of any byte never gives another content', async () => {
    const own = rawDisks([a])
    const whole = packed(own, a)
    let seen = 0
    for (let at = 0; at < whole.length - 1024; at += 13) {
      const bytes = changedAt(whole, at)
      const found = await openBytes(bytes, { format: 'ova' }).then(read, (error: unknown) => {
        expect(error).toMatchObject({ name: 'ImageError' })
        seen++
        return undefined
      })
      if (found !== undefined) expect(sha(found)).toBe(sha(a.bytes))
    }
    expect(seen).toBeGreaterThan(200)
  })
})
