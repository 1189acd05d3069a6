import { memoryStorage, storageFrom } from '@img/core'
import fc from 'fast-check'
import { packTar, unpackTar } from 'modern-tar'
import { describe, expect, it } from 'vitest'
import { parseTarHeader, serialiseTarHeader } from '../src/tar-header.js'
import { readTarMembers } from '../src/tar-members.js'
import { type File, pax, tar, utf8 } from './support/build.js'

function members(bytes: Uint8Array): ReturnType<typeof readTarMembers> {
  return readTarMembers(memoryStorage(bytes, { readOnly: true, label: 'x.ova' }), {})
}

function refused(bytes: Uint8Array, code: string): Promise<void> {
  return expect(members(bytes)).rejects.toMatchObject({ name: 'ImageError', code })
}

const name = fc.stringMatching(/^[a-zA-Z0-9äß_-]{1,60}(\/[a-zA-Z0-9_-]{1,99}){0,2}\.[a-z]{1,4}$/)
const content = fc.uint8Array({ maxLength: 2000 })

describe('members of an archive', () => {
  it('are found where another tool put them, names of any length', async () => {
    const files = fc.uniqueArray(fc.record({ name, content }), {
      selector: (each) => each.name,
      maxLength: 6,
    })
    await fc.assert(
      fc.asyncProperty(files, async (list) => {
        const bytes = await packTar(
          list.map((each) => ({
            header: { name: each.name, size: each.content.length, type: 'file' as const },
            body: each.content,
          })),
        )
        const found = await members(bytes)
        expect(found.map((each) => each.name)).toEqual(list.map((each) => each.name))
        for (const [index, { offset, size }] of found.entries()) {
          expect(bytes.subarray(offset, offset + size)).toEqual(list[index]?.content)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('are read by another tool as they were written here', async () => {
    const plain = fc.stringMatching(/^[a-z0-9_.-]{1,90}$/)
    const files = fc.uniqueArray(fc.record({ name: plain, bytes: content }), {
      selector: (each) => each.name,
      maxLength: 6,
    })
    await fc.assert(
      fc.asyncProperty(files, async (list) => {
        const found = await unpackTar(tar(list))
        expect(found.map(({ header }) => header.name)).toEqual(list.map((each) => each.name))
        expect(found.map(({ data }) => data)).toEqual(list.map((each) => each.bytes))
      }),
      { numRuns: 40 },
    )
  })

  it('have sizes beyond 8 GiB', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (size) => {
        const header = serialiseTarHeader({ name: 'a', size, type: '0' })
        expect(parseTarHeader(header, 'x', 0)).toEqual({ name: 'a', size, type: '0' })
      }),
    )
    for (const size of [8 ** 11 - 1, 8 ** 11, 2 ** 53 - 1]) {
      const header = serialiseTarHeader({ name: 'a', size, type: '0' })
      expect(parseTarHeader(header, 'x', 0)).toMatchObject({ size })
    }
  })

  it.each([['base-256'], ['pax']])('are found behind one of more than 8 GiB, %s', async (kind) => {
    const size = 9 * 2 ** 30 + 5
    const big =
      kind === 'pax'
        ? new Uint8Array([
            ...tar([{ name: 'x', bytes: pax({ size: String(size) }), type: 'x' }], 0),
            ...serialiseTarHeader({ name: 'a.vmdk', size: 0, type: '0' }),
          ])
        : serialiseTarHeader({ name: 'a.vmdk', size, type: '0' })
    const after = big.length + Math.ceil(size / 512) * 512
    const last = tar([{ name: 'b', bytes: utf8('hello') }])
    const storage = storageFrom({
      label: 'big',
      size: after + last.length,
      read(offset, length) {
        const bytes = new Uint8Array(length)
        for (let i = 0; i < length; i++) bytes[i] = big[offset + i] ?? last[offset + i - after] ?? 0
        return bytes
      },
    })
    expect(await readTarMembers(storage, {})).toEqual([
      { name: 'a.vmdk', offset: big.length, size },
      { name: 'b', offset: after + 512, size: 5 },
    ])
  })

  it('take their names from extended headers, and from GNU ones', async () => {
    const long = `${'n'.repeat(200)}.vmdk`
    const one = { name: 'x', bytes: pax({ path: long, comment: 'a\nb=c' }), type: 'x' }
    const two = { name: '././@LongLink', bytes: utf8(`${long}2\0`), type: 'L' }
    const archive = tar([one, { name: 'short', bytes: utf8('1') }, two, { name: 'short', bytes: utf8('2') }])
    expect((await members(archive)).map((each) => each.name)).toEqual([long, `${long}2`])
  })

  it('are named without ./, and directories are passed over', async () => {
    const archive = tar([
      { name: './', bytes: utf8(''), type: '5' },
      { name: 'sub/', bytes: utf8(''), type: '5' },
      { name: './a.ovf', bytes: utf8('1') },
    ])
    expect((await members(archive)).map((each) => each.name)).toEqual(['a.ovf'])
  })

  it('end with the archive also where no zeros do', async () => {
    const archive = tar([{ name: 'a', bytes: utf8('1') }], 0)
    expect(await members(archive)).toHaveLength(1)
    expect(await members(archive.subarray(0, 513))).toHaveLength(1)
  })
})

describe('what is refused', () => {
  const plain = { name: 'a', bytes: utf8('data') }

  it.each(['1', '2', '3', '4', '6', 'S', 'M', 'V', 'K', '?'])('a member of type %s', (type) =>
    refused(tar([plain, { name: 'b', bytes: utf8(''), type }]), 'IMG_UNSUPPORTED'),
  )

  it.each<[string, Record<string, string>]>([
    ['sparse', { 'GNU.sparse.major': '1' }],
    ['a link', { linkpath: '/etc/passwd' }],
  ])('an extended header that makes a member %s', (_, records) =>
    refused(tar([{ name: 'x', bytes: pax(records), type: 'x' }, plain]), 'IMG_UNSUPPORTED'),
  )

  it.each([
    '/etc/passwd',
    '../x',
    'a/../../x',
    'a\\..\\x',
    '..',
    'C:\\x',
    'c:/x',
    '\\\\host\\x',
    'file:x',
    'http://h/x',
    'a\u0001b',
    '.',
  ])('the name %j', async (bad) => {
    await refused(tar([{ name: bad, bytes: utf8('x') }]), 'IMG_REFERENCE_DENIED')
    const header: File = { name: 'x', bytes: pax({ path: bad }), type: 'x' }
    await refused(tar([header, plain]), 'IMG_REFERENCE_DENIED')
  })

  it('a directory outside', () =>
    refused(tar([{ name: '../d/', bytes: utf8(''), type: '5' }]), 'IMG_REFERENCE_DENIED'))

  it('two members of one name, also where one begins with ./', async () => {
    await refused(tar([plain, plain]), 'IMG_CORRUPT')
    await refused(tar([plain, { ...plain, name: './a' }]), 'IMG_CORRUPT')
  })

  it.each<[string, Uint8Array]>([
    ['no number', utf8('x path=a\n')],
    ['a length that is too short', utf8('3 path=a\n')],
    ['a length beyond the header', utf8('99 path=a\n')],
    ['no equals sign', utf8('8 pathx\n')],
    ['a size that is none', pax({ size: '-1' })],
    ['a size beyond all', pax({ size: '99999999999999999999' })],
  ])('an extended header with %s', (_, bytes) =>
    refused(tar([{ name: 'x', bytes, type: 'x' }, plain]), 'IMG_CORRUPT'),
  )

  it('a global header that names members, an extended header that is huge, too many members', async () => {
    await refused(tar([{ name: 'x', bytes: pax({ path: 'z' }), type: 'g' }, plain]), 'IMG_CORRUPT')
    await refused(tar([{ name: 'x', bytes: new Uint8Array(70_000), type: 'x' }, plain]), 'IMG_CORRUPT')
    const many = Array.from({ length: 16_385 }, (_, i) => ({ name: `f${i}`, bytes: utf8('') }))
    await refused(tar(many), 'IMG_CORRUPT')
  })

  it('headers whose checksum or size is wrong', async () => {
    const archive = tar([plain])
    archive[0] = 0x62
    await refused(archive, 'IMG_CORRUPT')
    const header = serialiseTarHeader({ name: 'a', size: 5, type: '0' })
    header.set(utf8('0000000000x\0'), 124)
    let sum = 0
    for (const [at, byte] of header.entries()) sum += at >= 148 && at < 156 ? 0x20 : byte
    header.set(utf8(`${sum.toString(8).padStart(6, '0')}\0 `), 148)
    await refused(header, 'IMG_CORRUPT')
  })

  it('an archive cut anywhere, unless whole members are left', async () => {
    const archive = tar([plain, { name: 'b', bytes: new Uint8Array(700).fill(7) }], 0)
    for (let at = 1; at < archive.length; at++) {
      const whole = at >= 1024 + 512 + 700 || (at > 512 + 3 && at <= 1024)
      const found = members(archive.subarray(0, at))
      if (whole) expect((await found).length).toBeGreaterThan(0)
      else await expect(found).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
    }
  })

  it('noise, with an ImageError', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 3000 }), async (bytes) => {
        await members(bytes).then(undefined, (error: unknown) =>
          expect(error).toMatchObject({ name: 'ImageError' }),
        )
      }),
    )
  })
})
