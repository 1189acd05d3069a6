import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { memoryStorage, type Reference, type Storage } from '@img/core'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import {
  type NodeReferenceOptions,
  nodeReferences,
  openFileStorageSync,
  parseReferenceName,
  type Target,
} from '../src/index.js'
import { nativeHost } from './support/host.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const posix = process.platform !== 'win32'
const own = join(directory, 'own')
mkdirSync(join(own, 'sub'), { recursive: true })
mkdirSync(join(directory, 'other'))
for (const name of [
  'own/image',
  'own/base',
  'own/sub/base',
  'other/base',
  'secret',
  'own-not/x'.replace('/x', ''),
]) {
  writeFileSync(join(directory, name), name)
}
if (posix) {
  symlinkSync('sub/base', join(own, 'inner'))
  symlinkSync('../secret', join(own, 'outer'))
  symlinkSync('../other', join(own, 'out'))
  symlinkSync('/dev/zero', join(own, 'zero'))
  symlinkSync('../other/later', join(own, 'dangling'))
}
const image = openFileStorageSync(join(own, 'image'))
afterAll(() => image.close())

function reference(name: string): Reference {
  return { kind: 'backing', name }
}

/** Opens a reference and tells what is in the file; otherwise rejects. */
async function content(name: string, options?: NodeReferenceOptions, from: Storage = image): Promise<string> {
  const { storage } = await nodeReferences(options).open(reference(name), from, { writable: false })
  try {
    const bytes = new Uint8Array(storage.size)
    await storage.read(0, bytes)
    return Buffer.from(bytes).toString()
  } finally {
    await storage.close()
  }
}

const denied = expect.objectContaining({
  name: 'ImageError',
  code: 'IMG_REFERENCE_DENIED',
  source: image.label,
  hint: expect.stringContaining('--allow-ref all'),
})

describe('by default', () => {
  it('files in the own directory and below are opened', async () => {
    expect(await content('base')).toBe('own/base')
    expect(await content('./base')).toBe('own/base')
    expect(await content('sub/base')).toBe('own/sub/base')
    expect(await content('sub/../base')).toBe('own/base')
    expect(await content(join(own, 'base'))).toBe('own/base')
    expect(await content('../own/base')).toBe('own/base')
  })

  it.skipIf(!posix)(
    "are told by name after the directory of the image's own name, as QEMU does",
    async () => {
      const named = openFileStorageSync(join(own, 'image'), { label: 'chain/image' })
      for (const [name, label] of [
        ['base', 'chain/base'],
        ['../own/base', 'chain/../own/base'],
        [join(own, 'base'), join(own, 'base')],
      ] as const) {
        const { storage } = await nodeReferences().open(reference(name), named, { writable: false })
        await storage.close()
        expect(storage.label).toBe(label)
      }
      await named.close()
    },
  )

  it.each([
    ['above', '../secret'],
    ['in a neighbour', '../other/base'],
    ['in a neighbour whose name begins alike', '../own-not'],
    ['absolute', join(directory, 'secret')],
    ['absolute and far', '/etc/passwd'],
    ['missing elsewhere', '/etc/there-is-no-such-file'],
    ['below a file elsewhere', '/etc/passwd/x'],
    ['empty', ''],
    ['with a zero byte', 'base\0'],
    ['the directory itself', '.'],
    ['a directory', 'sub'],
    ['file:', 'file:base'],
    ['json:', 'json:{"driver":"raw","file.filename":"base"}'],
    ['nbd:', 'nbd:localhost:10809'],
    ['nbd URL', 'nbd://localhost/x'],
    ['https', 'https://example.org/base'],
    ['fat:', 'fat:rw:/tmp'],
    ['an unknown protocol', 'a+b.c:base'],
    ['no protocol', ':base'],
    ['UNC', '\\\\server\\share\\base'],
    ['double slash', '//server/share/base'],
  ])('what is %s is refused', async (_, name) => {
    await expect(content(name)).rejects.toEqual(denied)
  })

  it.skipIf(!posix)('symbolic links count by where they lead (skipped on Windows)', async () => {
    expect(await content('inner')).toBe('own/sub/base')
    for (const name of ['outer', 'out/base', 'zero', 'out/missing', 'out/../secret']) {
      await expect(content(name)).rejects.toEqual(denied)
    }
  })

  it('what is missing is said to be missing', async () => {
    await expect(content('sub/missing')).rejects.toEqual(
      expect.objectContaining({
        code: 'IMG_REFERENCE_MISSING',
        message: expect.stringContaining(join(own, 'sub', 'missing')),
      }),
    )
  })

  it('says the name, why, and what to do', async () => {
    await expect(content('../other/base')).rejects.toThrow(
      `${image.label} refers to backing file "../other/base", which is outside the image's directory ${own}: not opened`,
    )
    await expect(content('../other/base')).rejects.toEqual(
      expect.objectContaining({
        hint: expect.stringContaining(`--allow-ref ${join(directory, 'other')} or`),
      }),
    )
  })

  it('an image that is no file may refer to nothing', async () => {
    for (const name of ['base', join(own, 'base')]) {
      await expect(content(name, {}, memoryStorage())).rejects.toEqual(
        expect.objectContaining({ code: 'IMG_REFERENCE_DENIED' }),
      )
    }
  })

  it('counts from the directory of the file that a slice is in', async () => {
    expect(await content('base', {}, image.slice(1))).toBe('own/base')
  })

  it('no name leads out', async () => {
    const part = fc.constantFrom(
      '..',
      '.',
      'sub',
      'base',
      'out',
      'outer',
      'inner',
      'own',
      'secret',
      '',
      'zero',
    )
    const name = fc.tuple(fc.constantFrom('', '/', `${own}/`, 'file:'), fc.array(part, { maxLength: 6 }))
    await fc.assert(
      fc.asyncProperty(name, async ([start, parts]) => {
        const outcome = await content(start + parts.join('/')).catch((error: { code: string }) => error.code)
        expect([
          'own/base',
          'own/sub/base',
          'own/image',
          'IMG_REFERENCE_DENIED',
          'IMG_REFERENCE_MISSING',
        ]).toContain(outcome)
      }),
      { numRuns: 300 },
    )
  })
})

describe('with directories allowed', () => {
  const allow = [join(directory, 'other')]

  it('files there are opened too', async () => {
    expect(await content('../other/base', { allow })).toBe('other/base')
    expect(await content(join(directory, 'other', 'base'), { allow })).toBe('other/base')
    expect(await content('base', { allow })).toBe('own/base')
    if (posix) expect(await content('out/base', { allow })).toBe('other/base')
    expect(await content(join(directory, 'other', 'base'), { allow }, memoryStorage())).toBe('other/base')
  })

  it('others and protocols are refused still', async () => {
    for (const name of ['../secret', 'file:base', '/etc/passwd']) {
      await expect(content(name, { allow })).rejects.toEqual(denied)
    }
  })

  it.skipIf(!posix)('a device there is reached, and is no disk (skipped on Windows)', async () => {
    await expect(content('/dev/zero', { allow: ['/dev'] })).rejects.toEqual(
      expect.objectContaining({ code: 'IMG_UNSUPPORTED' }),
    )
  })
})

describe('with all allowed', () => {
  const allow = 'all'

  it('paths of every kind are opened', async () => {
    expect(await content('../secret', { allow })).toBe('secret')
    expect(await content(join(directory, 'secret'), { allow })).toBe('secret')
    expect(await content(`file:${join(directory, 'secret')}`, { allow })).toBe('secret')
    if (posix) {
      expect(await content('outer', { allow })).toBe('secret')
      // As the host reads it: above the directory that the link leads to.
      expect(await content('out/../secret', { allow })).toBe('secret')
    }
  })

  it('a name with a protocol: the file is called by the path in it', async () => {
    const path = `${directory}/images/../secret`
    const { storage } = await nodeReferences({ allow }).open(reference(`file:${path}`), image, {
      writable: false,
    })
    expect(storage.label).toBe(path)
    await storage.close()
  })

  it('json: names are understood, and tell the format', async () => {
    const name = `json:${JSON.stringify({ driver: 'qcow2', file: { driver: 'file', filename: join(directory, 'secret') } })}`
    const { storage, format } = await nodeReferences({ allow }).open(reference(name), image, {
      writable: false,
    })
    expect({ size: storage.size, format }).toEqual({ size: 6, format: 'qcow2' })
    await storage.close()
  })

  it('another protocol or driver is not supported', async () => {
    for (const name of ['nbd:localhost:1', 'https://example.org/x', 'json:{"driver":"nbd","host":"x"}']) {
      await expect(content(name, { allow })).rejects.toEqual(
        expect.objectContaining({ code: 'IMG_UNSUPPORTED', source: image.label }),
      )
    }
  })

  it('what is missing is missing', async () => {
    await expect(content('/nowhere/at/all', { allow })).rejects.toEqual(
      expect.objectContaining({ code: 'IMG_REFERENCE_MISSING' }),
    )
    await expect(content('base', { allow }, memoryStorage())).rejects.toEqual(
      expect.objectContaining({ code: 'IMG_REFERENCE_DENIED' }),
    )
  })
})

describe('names', () => {
  it.each([
    ['a/b:c', { path: 'a/b:c', fromWorkingDirectory: false }],
    ['file:a', { path: 'a', fromWorkingDirectory: true }],
    ['file:///a', { path: '///a', fromWorkingDirectory: true }],
    ['json:{"driver":"file","filename":"a"}', { path: 'a', format: 'raw', fromWorkingDirectory: true }],
    [
      'json:{"driver":"host_device","filename":"a"}',
      { path: 'a', format: 'raw', fromWorkingDirectory: true },
    ],
    [
      'json:{"driver":"raw","file.driver":"file","file.filename":"a"}',
      { path: 'a', format: 'raw', fromWorkingDirectory: true },
    ],
    [
      'json:{"driver":"qcow2","encrypt.key-secret":"s","file":{"filename":"a"}}',
      {
        path: 'a',
        format: 'qcow2',
        options: { 'encrypt.key-secret': 's' },
        fromWorkingDirectory: true,
      },
    ],
    ['json:{"file":{"filename":"a"}}', { path: 'a', format: undefined, fromWorkingDirectory: true }],
  ])('%s', (name, expected) => {
    expect(parseReferenceName(name)).toEqual(expected)
  })

  it.each([
    ['json:{"driver":"qcow2","filename":"a"}', 'IMG_UNSUPPORTED', '"filename"'],
    ['json:{"filename":"a"}', 'IMG_UNSUPPORTED', '"filename"'],
    ['json:{"driver":"qcow2","file":{"filename":"a"},"file.filename":"b"}', 'IMG_UNSUPPORTED', 'twice'],
    ['json:{"driver":"raw","offset":512,"file.filename":"a"}', 'IMG_UNSUPPORTED', '"offset"'],
    [
      'json:{"driver":"raw","file":{"driver":"raw","file.filename":"a"}}',
      'IMG_UNSUPPORTED',
      '"file.file.filename"',
    ],
    ['json:{"driver":"raw","file":"node"}', 'IMG_UNSUPPORTED', '"file"'],
    ['json:{"driver":7,"file.filename":"a"}', 'IMG_UNSUPPORTED', '"driver"'],
    ['json:{"driver":"raw","file":{"driver":"nbd","filename":"a"}}', 'IMG_UNSUPPORTED', '"nbd"'],
    ['json:{"driver":"raw"}', 'IMG_UNSUPPORTED', 'file.filename'],
    ['json:{"__proto__":{"filename":"a"},"driver":"raw"}', 'IMG_UNSUPPORTED', '__proto__'],
    ['json:["a"]', 'IMG_UNSUPPORTED', 'object'],
    ['json:{', 'IMG_CORRUPT', 'JSON'],
    ['ssh://host/x', 'IMG_UNSUPPORTED', 'ssh'],
  ])('%s is refused', (name, code, part) => {
    expect(() => parseReferenceName(name)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(part) }),
    )
  })

  it('of any text are understood or refused with an ImageError', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json().map((text) => `json:${text}`),
        ),
        (name) => {
          try {
            expect(typeof parseReferenceName(name).path).toBe('string')
          } catch (error) {
            expect((error as Error).name).toBe('ImageError')
          }
        },
      ),
    )
  })
})

describe('writing', () => {
  it.skipIf(!nativeHost)('takes the lock of a reader or a writer (skipped without the binding)', async () => {
    const gate = nodeReferences()
    const reader = await gate.open(reference('base'), image, { writable: false })
    await expect(gate.open(reference('base'), image, { writable: true })).rejects.toEqual(
      expect.objectContaining({ code: 'IMG_LOCKED' }),
    )
    await reader.storage.close()
    const writer = await gate.open(reference('base'), image, { writable: true })
    const shared = await nodeReferences({ shared: true }).open(reference('base'), image, { writable: false })
    await Promise.all([writer.storage.close(), shared.storage.close()])
  })

  it('makes no file unless that was asked for', () => {
    expect(nodeReferences().create).toBeUndefined()
  })

  it('makes files where they could be opened, to be committed with the image', async () => {
    const targets: Target[] = []
    const gate = nodeReferences({ onCreate: (target) => targets.push(target) })
    const storage = await gate.create?.({ kind: 'data', name: 'sub/data' }, image, {})
    await storage?.write(0, Buffer.from('data'))
    const path = join(own, 'sub', 'data')
    expect(existsSync(path)).toBe(false)
    for (const target of targets) await target.commit()
    expect(existsSync(path)).toBe(true)
    for (const name of [
      '../data',
      '/data',
      'file:data',
      ...(posix ? ['dangling', 'outer', 'out/data'] : []),
    ]) {
      await expect(gate.create?.({ kind: 'data', name }, image, {})).rejects.toEqual(denied)
    }
    expect(existsSync(join(directory, 'other', 'later'))).toBe(false)
    expect(targets.length).toBe(1)
  })
})
