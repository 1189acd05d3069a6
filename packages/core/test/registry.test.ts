import { describe, expect, it, vi } from 'vitest'
import { ImageError } from '../src/errors.js'
import { defineFormat, type Format } from '../src/format.js'
import { createRegistry, defaultRegistry, type LazyFormat, registerFormat } from '../src/registry.js'
import { expectCode } from './storage-contract.js'

function format(name: string, more: Partial<Format> = {}): Format {
  return {
    apiVersion: 1,
    name,
    title: `Format ${name}`,
    extensions: [`.${name}`],
    magic: [],
    open: () => Promise.reject(new Error('not to be opened')),
    ...more,
  }
}

function lazy(
  loaded: Format | Error,
  more: Partial<LazyFormat['manifest']> = {},
): LazyFormat & { loads: number } {
  const plugin = {
    manifest: { name: loaded instanceof Error ? 'broken' : loaded.name, ...more },
    loads: 0,
    async load() {
      plugin.loads++
      if (loaded instanceof Error) throw loaded
      return loaded
    },
  }
  return plugin
}

describe('a registry', () => {
  it('finds formats by name and alias', async () => {
    const vmdk = format('vmdk', { aliases: ['vmware'] })
    const registry = createRegistry([vmdk, format('vdi')])
    expect(registry.get('vmware')).toBe(vmdk)
    expect(await registry.load('vmware')).toBe(vmdk)
    expect(registry.get('vhd')).toBeUndefined()
    expect(registry.formats.map(({ name }) => name)).toEqual(['vmdk', 'vdi'])
  })

  it('takes one format of a name, and bears another copy of the same plugin', () => {
    const first = format('vmdk')
    const registry = createRegistry([first, first, format('vmdk')])
    expect(registry.formats).toEqual([first])
    const other = format('vmdk', { title: 'Somebody else' })
    expect(() => registry.register(other)).toThrow(
      expect.objectContaining({ code: 'IMG_FORMAT_CONFLICT', format: 'vmdk' }),
    )
    registry.register(other, { replace: true })
    expect(registry.formats).toEqual([other])
  })

  it.each([
    ['an alias that is a name', format('other', { aliases: ['vmdk'] })],
    ['a name that is an alias', format('vmware')],
    ['an alias that is an alias', format('other', { aliases: ['x', 'vmware'] })],
  ])('refuses %s', (_, other) => {
    const registry = createRegistry([format('vmdk', { aliases: ['vmware'] })])
    expect(() => registry.register(other)).toThrow(expect.objectContaining({ code: 'IMG_FORMAT_CONFLICT' }))
    registry.register(other, { replace: true })
    expect(registry.formats).toEqual([other])
  })

  it('refuses a format of another contract', () => {
    const future = format('vmdk', { apiVersion: 2 as 1 })
    expect(() => createRegistry([future])).toThrow(
      expect.objectContaining({ code: 'IMG_PLUGIN_INCOMPATIBLE' }),
    )
    expect(() => defineFormat(future)).toThrow(
      expect.objectContaining({ code: 'IMG_PLUGIN_INCOMPATIBLE', format: 'vmdk' }),
    )
  })

  it.each([
    ['qcow2', '@img/qcow2'],
    ['raw', '@img/raw'],
    ['vmdk', '@img/vmdk'],
  ])('names the package that %s needs', async (name, installed) => {
    const error = await expectCode(() => createRegistry().load(name), 'IMG_PLUGIN_MISSING')
    expect(error.message).toContain(installed)
    expect(error.hint).toBe(`install it: npm install ${installed}`)
  })

  it('does not know what nobody knows', async () => {
    const error = await expectCode(() => createRegistry().load('floppy'), 'IMG_UNKNOWN_FORMAT')
    expect(error.message).toBe("Unknown file format 'floppy'")
  })
})

describe('plugins that are not loaded yet', () => {
  it('are loaded once, by the first who asks', async () => {
    const vmdk = format('vmdk')
    const plugin = lazy(vmdk, { aliases: ['vmware'] })
    const registry = createRegistry()
    registry.registerLazy(plugin)
    expect(registry.get('vmdk')).toBeUndefined()
    expect(registry.unloaded).toEqual([plugin.manifest])
    expect(await Promise.all([registry.load('vmdk'), registry.load('vmware')])).toEqual([vmdk, vmdk])
    expect(await registry.load('vmdk')).toBe(vmdk)
    expect(plugin.loads).toBe(1)
    expect(registry.unloaded).toEqual([])
    expect(registry.formats).toEqual([vmdk])
  })

  it('do not displace what came first', async () => {
    const first = lazy(format('vmdk'))
    const second = lazy(format('vmdk', { title: 'Somebody else' }))
    const registry = createRegistry([format('vdi')])
    registry.registerLazy(first)
    registry.registerLazy(second)
    registry.registerLazy(lazy(format('vdi', { title: 'Somebody else' })))
    expect(registry.unloaded).toEqual([first.manifest])
    await registry.load('vmdk')
    expect([first.loads, second.loads]).toEqual([1, 0])
  })

  it('are not needed once the format is registered', () => {
    const registry = createRegistry()
    registry.registerLazy(lazy(format('vmdk')))
    registry.register(format('vmdk'))
    expect(registry.unloaded).toEqual([])
  })

  it('that fail to load say which and why, and are tried again', async () => {
    const cause = new Error('outer', { cause: new Error('Cannot find module ./header.js') })
    const plugin = lazy(cause)
    const registry = createRegistry()
    registry.registerLazy(plugin)
    const error = await expectCode(() => registry.load('broken'), 'IMG_PLUGIN_INCOMPATIBLE')
    expect(error).toMatchObject({ format: 'broken', cause })
    expect(error.message).toBe(
      'the plugin for format broken cannot be loaded: Cannot find module ./header.js',
    )
    await expectCode(() => registry.load('broken'), 'IMG_PLUGIN_INCOMPATIBLE')
    expect(plugin.loads).toBe(2)
    const own = new ImageError('IMG_UNSUPPORTED', 'not on this system')
    registry.registerLazy({ manifest: { name: 'picky' }, load: () => Promise.reject(own) })
    await expect(registry.load('picky')).rejects.toBe(own)
    registry.registerLazy({
      manifest: { name: 'future' },
      load: async () => format('future', { apiVersion: 9 as 1 }),
    })
    await expectCode(() => registry.load('future'), 'IMG_PLUGIN_INCOMPATIBLE')
  })

  it('are loaded for probing where their magic numbers allow', async () => {
    const hits = lazy(format('hits'), {
      magic: [
        { offset: 0, hex: 'aa' },
        { offset: 4, hex: 'bb' },
      ],
    })
    const misses = lazy(format('misses'), { magic: [{ offset: 0, hex: 'cc' }] })
    const never = lazy(format('never'), { magic: [] })
    const always = lazy(format('always'))
    const registry = createRegistry()
    for (const plugin of [hits, misses, never, always]) registry.registerLazy(plugin)
    const loaded = await registry.loadMatching(({ hex }) => hex === 'bb')
    expect(loaded.map(({ name }) => name).sort()).toEqual(['always', 'hits'])
    expect([hits, misses, never, always].map(({ loads }) => loads)).toEqual([1, 0, 0, 1])
  })

  it('do not keep other formats from being probed where they are broken and name no magic number', async () => {
    const broken = (): Promise<never> => Promise.reject(new Error('cannot start'))
    const registry = createRegistry([format('fine')])
    registry.registerLazy({ manifest: { name: 'anything' }, load: broken })
    expect((await registry.loadMatching(() => true)).map(({ name }) => name)).toEqual(['fine'])
    registry.registerLazy({ manifest: { name: 'named', magic: [{ offset: 0, hex: 'aa' }] }, load: broken })
    await expectCode(() => registry.loadMatching(() => true), 'IMG_PLUGIN_INCOMPATIBLE')
    expect((await registry.loadMatching(() => false)).map(({ name }) => name)).toEqual(['fine'])
  })
})

describe('the default registry', () => {
  it('is one for all copies of core', async () => {
    vi.resetModules()
    const copy = await import('../src/registry.js')
    expect(copy.registerFormat).not.toBe(registerFormat)
    expect(copy.defaultRegistry).toBe(defaultRegistry)
    const shared = format('test-shared')
    copy.registerFormat(shared)
    registerFormat(shared)
    expect(defaultRegistry.get('test-shared')).toBe(shared)
    const foreign = await expectCode(() => copy.createRegistry().load('floppy'), 'IMG_UNKNOWN_FORMAT')
    expect(foreign).not.toBeInstanceOf(ImageError)
  })
})

describe('defineFormat', () => {
  it('returns what it is given', () => {
    const fine = format('fine')
    expect(defineFormat(fine)).toBe(fine)
  })

  it.each([
    ['a name in capitals', { name: 'VMDK' }],
    ['no open', { open: undefined as never }],
    ['create without its options', { create: () => Promise.reject(new Error('no')) }],
  ])('refuses %s', (_, more) => {
    expect(() => defineFormat(format('x', more))).toThrow(TypeError)
  })
})
