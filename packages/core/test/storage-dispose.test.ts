import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { describe, expect, it } from 'vitest'
import type { memoryStorage as Memory } from '../src/storage/memory.js'

/** Bundles one storage as an application that shakes its tree would, and loads it under another `Symbol`. */
async function loadUnder(symbol: unknown): Promise<typeof Memory> {
  const path = fileURLToPath(new URL('../src/storage/memory.ts', import.meta.url))
  const { outputFiles } = await build({
    stdin: { contents: `export { memoryStorage } from ${JSON.stringify(path)}`, resolveDir: '.' },
    bundle: true,
    write: false,
    minify: true,
    format: 'iife',
    globalName: 'lib',
    platform: 'browser',
    target: 'es2022',
  })
  return new Function('Symbol', `${outputFiles[0]?.text}; return lib.memoryStorage`)(symbol)
}

describe('asyncDispose', () => {
  it('is defined where a browser lacks it, and bundled', async () => {
    const old: { (name: string): symbol; for(name: string): symbol; asyncDispose?: symbol } = Object.assign(
      (name: string) => Symbol(name),
      { for: (name: string) => Symbol.for(name), iterator: Symbol.iterator },
    )
    const memoryStorage = await loadUnder(old)
    const defined = old.asyncDispose
    expect(typeof defined).toBe('symbol')
    const storage = memoryStorage(new Uint8Array(1))
    await (storage as unknown as Record<symbol, () => Promise<void>>)[defined as symbol]?.()
    await expect(storage.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'IMG_CLOSED' })
    await loadUnder(old)
    expect(old.asyncDispose).toBe(defined)
  })

  it('is the host’s own where there is one', async () => {
    const memoryStorage = await loadUnder(Symbol)
    expect(typeof memoryStorage(new Uint8Array(1))[Symbol.asyncDispose]).toBe('function')
  })
})
