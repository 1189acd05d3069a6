import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { CodecName } from '../src/codecs/codec.js'
import { padded, sampleBytes } from './codecs-implementations.js'

const NAMES: readonly CodecName[] = ['deflate-raw', 'zlib', 'zstd']
type Loader = typeof import('../src/codecs/index.js')

let load: Loader
beforeEach(async () => {
  vi.resetModules()
  load = await import('../src/codecs/index.js')
})
afterEach(() => {
  vi.doUnmock('@hpcc-js/wasm-zstd')
  vi.restoreAllMocks()
})

const unit = sampleBytes(65536, 2)

describe.each(NAMES)('%s', (name) => {
  it('loads once', async () => {
    const codec = await load.loadCodec(name)
    expect(codec.name).toBe(name)
    expect(load.loadCodec(name)).toBe(codec)
    expect(load.codecIfReady(name)).toBe(codec)
    expect(Buffer.compare(codec.decompress(padded(codec.compress(unit), 99), unit.length), unit)).toBe(0)
  })

  it('loads without Node, as in a browser', async () => {
    vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined)
    expect(load.codecIfReady(name)).toBeUndefined()
    const [codec, again] = await Promise.all([load.loadCodec(name), load.loadCodec(name)])
    expect(again).toBe(codec)
    expect(load.codecIfReady(name)).toBe(codec)
    expect(Buffer.compare(codec.decompress(padded(codec.compress(unit), 99), unit.length), unit)).toBe(0)
  })
})

it('has DEFLATE at once in Node', () => {
  expect(load.codecIfReady('deflate-raw')?.name).toBe('deflate-raw')
  expect(load.codecIfReady('zlib')?.name).toBe('zlib')
})

it('refuses other names', () => {
  expect(() => load.codecIfReady('lzma' as CodecName)).toThrow(TypeError)
  expect(() => load.loadCodec('constructor' as CodecName)).toThrow(TypeError)
})

it('says why a codec cannot be loaded, and tries again the next time', async () => {
  vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined)
  vi.doMock('@hpcc-js/wasm-zstd', () => ({
    Zstd: { load: () => Promise.reject(new Error('refused by the page')) },
  }))
  await expect(load.loadCodec('zstd')).rejects.toMatchObject({
    code: 'IMG_UNSUPPORTED',
    message: expect.stringContaining('refused by the page'),
    hint: expect.stringContaining('wasm-unsafe-eval'),
  })
  vi.doUnmock('@hpcc-js/wasm-zstd')
  expect((await load.loadCodec('zstd')).name).toBe('zstd')
})
