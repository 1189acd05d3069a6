import { describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'
import type { Format, OpenContext, Reference } from '../src/format.js'
import { maxChainDepth, type OpenOptions, openImage } from '../src/open.js'
import {
  denyReferences,
  describe as describeReference,
  type ReferenceResolver,
  referencesFrom,
} from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import type { Storage, WritableStorage } from '../src/storage.js'
import type { ImageWarningCode } from '../src/warning.js'
import { expectCode } from './storage-contract.js'
import { flat, join, pattern, readAll } from './support/disks.js'
import { expectBytes, extentsOf } from './support/extents.js'
import { hookedStorage } from './support/hooked-storage.js'
import { buildToy, toy } from './toy-format.js'

const clusterSize = 512
const registry = createRegistry([toy, flat])

async function overlay(backing: string | undefined, own = false): Promise<MemoryStorage> {
  const file = memoryStorage(undefined, { label: `over ${backing}` })
  await buildToy(file, [own ? pattern(512) : 'unallocated'], { clusterSize, ...(backing && { backing }) })
  return file
}

/** A storage that tells when it is closed. */
function watched(inner: WritableStorage, closed: string[], identity?: string): WritableStorage {
  return hookedStorage(inner, {
    ...(identity !== undefined && { identity }),
    before({ op }) {
      if (op === 'close') closed.push(inner.label)
    },
  })
}

describe('openImage', () => {
  it('finds the format, or takes it by name or as it is', async () => {
    const bytes = (await overlay(undefined)).bytes()
    for (const format of [undefined, 'toy', toy])
      expect((await openImage(memoryStorage(bytes.slice()), { registry, format })).format).toBe(toy)
  })

  it('reads what nothing recognises as raw, and warns', async () => {
    const warnings: string[] = []
    const codes: unknown[] = []
    const onWarning = (message: string, code?: ImageWarningCode): void => {
      warnings.push(message)
      codes.push(code)
    }
    const disk = await openImage(memoryStorage(pattern(600), { label: 'disk.bin' }), { registry, onWarning })
    expect(disk.format).toBe(flat)
    expectBytes(await readAll(disk), pattern(600))
    expect(warnings).toEqual([
      'disk.bin: no format recognises this file; it is read as raw. Say -f raw to mean that',
    ])
    expect(codes).toEqual(['WARN_GUESSED_RAW'])
    await openImage(memoryStorage(pattern(600)), { registry, onWarning, format: 'raw' })
    expect(warnings).toHaveLength(1)
  })

  it('never writes to what it does not recognise', async () => {
    const error = await expectCode(
      () => openImage(memoryStorage(pattern(600)), { registry, writable: true }),
      'IMG_UNKNOWN_FORMAT',
    )
    expect(error.hint).toContain('-f raw')
    expect(
      (await openImage(memoryStorage(pattern(9)), { registry, writable: true, format: 'raw' })).write,
    ).toBeDefined()
  })

  it('does not recognise a file where there is no raw format either', async () => {
    const only = createRegistry([toy])
    await expectCode(() => openImage(memoryStorage(pattern(600)), { registry: only }), 'IMG_UNKNOWN_FORMAT')
    only.registerLazy({
      manifest: { name: 'raw', magic: [] },
      load: () => Promise.reject(new Error('broken')),
    })
    await expectCode(
      () => openImage(memoryStorage(pattern(600)), { registry: only }),
      'IMG_PLUGIN_INCOMPATIBLE',
    )
  })

  it('checks the options of the format', async () => {
    const open = (options: Record<string, unknown>): Promise<unknown> =>
      overlay(undefined).then((file) => openImage(file, { registry, options }))
    await open({ async: 'on' })
    await expectCode(() => open({ async: 'maybe' }), 'IMG_BAD_OPTION')
    await expectCode(() => open({ nonsense: 1 }), 'IMG_BAD_OPTION')
  })

  it.each<[ImageError['code'], () => Promise<Storage>, OpenOptions]>([
    ['IMG_NOT_THIS_FORMAT', async () => memoryStorage(pattern(600)), { format: 'toy' }],
    ['IMG_TRUNCATED', async () => memoryStorage(pattern(60)), { format: 'toy' }],
    ['IMG_PLUGIN_MISSING', async () => memoryStorage(pattern(600)), { format: 'vdi' }],
    ['IMG_UNKNOWN_FORMAT', async () => memoryStorage(pattern(600)), { format: 'floppy' }],
    ['IMG_REFERENCE_DENIED', () => overlay('base'), {}],
    [
      'IMG_READ_ONLY',
      async () => memoryStorage((await overlay(undefined)).bytes(), { readOnly: true }),
      { writable: true },
    ],
  ])('closes the storage where it fails with %s', async (code, make, options) => {
    const closed: string[] = []
    const inner = await make()
    const storage: Storage = {
      ...inner,
      label: inner.label,
      size: inner.size,
      close: async () => void closed.push('closed'),
    }
    Object.setPrototypeOf(storage, inner)
    storage.read = (...given) => inner.read(...given)
    await expectCode(() => openImage(storage, { registry, ...options }), code)
    expect(closed).toEqual(['closed'])
  })

  it('tells its own error even where closing fails too', async () => {
    const storage = hookedStorage(await overlay('base'), {
      before({ op }) {
        if (op === 'close') throw new Error('cannot be closed')
      },
    })
    const format: Format = {
      ...toy,
      open: async (...given) => ({
        ...(await toy.open(...given)),
        close: () => Promise.reject(new Error('nor the driver')),
      }),
    }
    await expectCode(() => openImage(storage, { registry, format }), 'IMG_REFERENCE_DENIED')
  })

  it('stops with the reason of the signal', async () => {
    const reason = new Error('enough')
    await expect(
      openImage(await overlay(undefined), { registry, signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason)
  })
})

describe('backing chains', () => {
  it('are denied by default', async () => {
    const error = await expectCode(
      async () => openImage(await overlay('secret'), { registry }),
      'IMG_REFERENCE_DENIED',
    )
    expect(error).toMatchObject({ source: 'over secret' })
    expect(error.message).toContain('backing file "secret"')
  })

  it('are opened through the gate, read-only, in the format recorded', async () => {
    const asked: unknown[] = []
    const file = memoryStorage()
    await buildToy(file, ['unallocated'], { clusterSize, backing: 'base' })
    const references: ReferenceResolver = {
      async open(reference, from, { writable }) {
        asked.push([reference, from.label, writable])
        return { storage: memoryStorage(pattern(700)), format: 'raw' }
      },
    }
    const disk = await openImage(file, { registry, references, writable: true })
    expect(asked).toEqual([[{ kind: 'backing', name: 'base', format: undefined }, 'memory', false]])
    expect(disk.backing?.format).toBe(flat)
    expect(disk.backing?.write).toBeUndefined()
    expectBytes(await readAll(disk), pattern(512))
  })

  it.each([
    ['file', 'raw'],
    ['host_device', 'raw'],
    ['toy', 'toy'],
  ])('take a recorded format %s for %s', async (recorded, name) => {
    const base = (await overlay(undefined)).bytes()
    const format: Format = {
      ...toy,
      open: async (...given) => ({
        ...(await toy.open(...given)),
        backing: { kind: 'backing', name: 'base', format: recorded },
      }),
    }
    const references = referencesFrom({ base: () => memoryStorage(base) })
    const disk = await openImage(await overlay(undefined), { registry, format, references })
    expect(disk.backing?.format.name).toBe(name)
  })

  it('are not given the options and the format of the image on top', async () => {
    const seen: OpenContext[] = []
    const spy: Format = {
      ...toy,
      open(storage, context) {
        seen.push(context)
        return toy.open(storage, context)
      },
    }
    const references = referencesFrom({ base: await overlay(undefined) })
    const options = {
      registry: createRegistry([spy]),
      format: 'toy',
      options: { async: true },
      writable: true,
      references,
    }
    await openImage(await overlay('base'), options)
    expect(seen.map(({ options, writable, inspect }) => [options.async, writable, inspect])).toEqual([
      [true, true, false],
      [false, false, false],
    ])
  })

  it('may be as long as the limit, and no longer', async () => {
    const chain = async (length: number): Promise<void> => {
      const files: Record<string, Storage> = {}
      for (let i = 1; i < length; i++)
        files[`f${i}`] = await overlay(i === length - 1 ? undefined : `f${i + 1}`, i === length - 1)
      const disk = await openImage(await overlay('f1'), { registry, references: referencesFrom(files) })
      expectBytes(await readAll(disk), pattern(512))
      expect((await extentsOf(disk))[0]).toMatchObject({ depth: length - 1 })
      await disk.close()
    }
    await chain(maxChainDepth)
    const error = await expectCode(() => chain(maxChainDepth + 1), 'IMG_CHAIN_LOOP')
    expect(error.message).toContain('longer than 64')
  })

  it('that come back to an image are found out by its identity, everything closed', async () => {
    const closed: string[] = []
    const [a, b] = [await overlay('b'), await overlay('a')]
    const references = referencesFrom({
      b: watched(b, closed, 'dev:2'),
      a: () => watched(a, closed, 'dev:1'),
    })
    const top = watched(a, closed, 'dev:1')
    const error = await expectCode(() => openImage(top, { registry, references }), 'IMG_CHAIN_LOOP')
    expect(error.message).toContain('backing file "a"')
    expect(closed).toEqual(['over b', 'over a', 'over b'])
  })

  it('that come back to an image are found out where nothing has an identity', async () => {
    const a = await overlay('a')
    const error = await expectCode(
      () => openImage(a, { registry, references: referencesFrom({ a }) }),
      'IMG_CHAIN_LOOP',
    )
    expect(error.message).toContain('above it')
  })

  it('with a part that cannot be opened leave nothing open', async () => {
    const closed: string[] = []
    const references = referencesFrom({ b: watched(await overlay('c'), closed) })
    const top = watched(await overlay('b'), closed)
    const error = await expectCode(() => openImage(top, { registry, references }), 'IMG_REFERENCE_MISSING')
    expect(error).toMatchObject({ source: 'over c' })
    expect(closed).toEqual(['over c', 'over b'])
  })

  it('that the format does not accept leave nothing open', async () => {
    const closed: string[] = []
    const refusal = new ImageError('IMG_UNSUPPORTED', 'not upon this')
    const format: Format = {
      ...toy,
      open: async (...given) => ({
        ...(await toy.open(...given)),
        async checkBacking(backing) {
          expect(backing.size).toBe(512)
          throw refusal
        },
      }),
    }
    const references = referencesFrom({ b: watched(await overlay(undefined), closed) })
    const top = watched(await overlay('b'), closed)
    await expect(openImage(top, { registry, format, references })).rejects.toBe(refusal)
    expect(closed).toEqual(['over undefined', 'over b'])
  })

  it('are closed with the image', async () => {
    const closed: string[] = []
    const references = referencesFrom({ b: watched(await overlay(undefined), closed) })
    const disk = await openImage(watched(await overlay('b'), closed), { registry, references })
    await disk.close()
    await disk.close()
    expect(closed).toEqual(['over b', 'over undefined'])
    await expectCode(() => readAll(disk), 'IMG_CLOSED')
  })
})

describe('other files of an image', () => {
  /** A format with a data file. */
  const withData = (reference: Reference): Format => ({
    ...flat,
    name: 'split',
    async open(_storage, context) {
      const data = await context.openReference(reference)
      context.warn(`data in ${data.label}`)
      const driver = await flat.open(data, context)
      return { ...driver, size: data.size, close: () => data.close() }
    },
  })
  const format = withData({ kind: 'data', name: 'disk.data' })

  it('are opened through the same gate, to be written with the image', async () => {
    const asked: boolean[] = []
    const warnings: string[] = []
    const closed: string[] = []
    const references: ReferenceResolver = {
      async open(_reference, _from, { writable }) {
        asked.push(writable)
        return { storage: watched(memoryStorage(pattern(100), { label: 'data' }), closed) }
      },
    }
    for (const writable of [false, true]) {
      const disk = await openImage(memoryStorage(), {
        format,
        references,
        writable,
        onWarning: (message) => void warnings.push(message),
      })
      expectBytes(await readAll(disk), pattern(100))
      await disk.close()
    }
    expect(asked).toEqual([false, true])
    expect(warnings).toEqual(['data in data', 'data in data'])
    expect(closed).toEqual(['data', 'data'])
  })

  it('are denied by default, and always where the image is only inspected', async () => {
    await expectCode(() => openImage(memoryStorage(), { format }), 'IMG_REFERENCE_DENIED')
    const references: ReferenceResolver = { open: () => expect.unreachable('nothing is to be opened') }
    const error = await expectCode(
      () => openImage(memoryStorage(), { format, references, inspect: true }),
      'IMG_REFERENCE_DENIED',
    )
    expect(error.message).toContain('data file "disk.data"')
    const disk = await openImage(await overlay('base'), { registry, references, inspect: true })
    expect((await disk.info()).backing).toMatchObject({ name: 'base' })
  })
})

describe('reference resolvers', () => {
  const reference: Reference = { kind: 'extent', name: 'toString' }

  it('from a table open what is in it and nothing else', async () => {
    const from = memoryStorage()
    const files = referencesFrom({ a: from, b: async () => memoryStorage(join(pattern(3))) })
    expect((await files.open({ kind: 'data', name: 'a' }, from, { writable: false })).storage).toBe(from)
    expect((await files.open({ kind: 'data', name: 'b' }, from, { writable: false })).storage.size).toBe(3)
    const error = await expectCode(
      () => files.open(reference, from, { writable: false }),
      'IMG_REFERENCE_MISSING',
    )
    expect(error.message).toBe('memory refers to extent "toString", which was not given')
  })

  it('deny with a hint', async () => {
    const error = await expectCode(
      () => denyReferences.open(reference, memoryStorage(), { writable: false }),
      'IMG_REFERENCE_DENIED',
    )
    expect(error.hint).toBeDefined()
    expect(denyReferences.create).toBeUndefined()
    expect(describeReference({ kind: 'parent', name: 'a\nb' })).toBe('parent "a\\nb"')
  })
})
