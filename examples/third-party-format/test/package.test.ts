import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRegistry, defaultRegistry, memoryStorage, probeFormat } from '@img/core'
import { describe, expect, it } from 'vitest'
import { vpc } from '../src/format.js'
import { copy, create } from './support/images.js'

const manifest = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8'))

describe('the package', () => {
  it('says in package.json what the format object says', () => {
    const { name, aliases, extensions, magic } = vpc
    expect(manifest.img).toEqual({ apiVersion: 1, formats: [{ name, aliases, extensions, magic }] })
    expect(manifest.keywords).toContain('img-format')
  })

  it('registers when imported, and not before', async () => {
    expect(defaultRegistry.get('vpc')).toBeUndefined()
    await import('../src/index.js')
    expect(defaultRegistry.get('vpc')).toBe(vpc)
    expect(await defaultRegistry.load('vhd')).toBe(vpc)
  })
})

describe('probing', () => {
  it('finds its own images by their start or end, and no others', async () => {
    const registry = createRegistry([vpc])
    const probe = (bytes: Uint8Array) => probeFormat(memoryStorage(bytes), { registry })
    const dynamic = copy(await create(1 << 20))
    expect(await probe(dynamic)).toBe(vpc)
    expect(await probe(copy(await create(1 << 20, { subformat: 'fixed' })))).toBe(vpc)
    expect(await probe(dynamic.slice(0, 100))).toBe(vpc)
    expect(await probe(dynamic.slice(512, -512))).toBeUndefined()
    expect(await probe(new Uint8Array(0))).toBeUndefined()
    expect(await probe(new Uint8Array(511))).toBeUndefined()
  })
})
