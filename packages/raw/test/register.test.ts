import { createRegistry, defaultRegistry, memoryStorage, openImage, probeFormat } from '@img/core'
import { describe, expect, it } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import { raw } from '../src/index.js'

describe('the raw plugin', () => {
  it('registers itself', () => {
    expect(defaultRegistry.get('raw')).toBe(raw)
  })

  it('says in its manifest what the format says', () => {
    const { name, extensions, magic } = raw
    expect(manifest.img).toEqual({ apiVersion: 1, formats: [{ name, extensions, magic }] })
  })

  it('is never guessed, but read where nothing else is known', async () => {
    const registry = createRegistry([raw])
    expect(await probeFormat(memoryStorage(new Uint8Array(512)), { registry })).toBeUndefined()
    const warnings: string[] = []
    const disk = await openImage(memoryStorage(new Uint8Array(512)), {
      registry,
      onWarning: (text) => void warnings.push(text),
    })
    expect(disk.format).toBe(raw)
    expect(warnings).toHaveLength(1)
  })
})
