import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RangeServer, startRangeServer } from '../support/range-server.js'
import { type Bundle, bundlePage, externalImports, loading, servePage } from './bundle.js'
import { chromiumPath, needsChromium, openTestPage, type TestPage } from './chromium.js'
import type { storagesPage } from './storages-page.js'

type Pages = typeof storagesPage

const period = 251
const pattern = (length: number): Uint8Array => new Uint8Array(length).map((_, i) => i % period)

let bundle: Bundle

beforeAll(async () => {
  bundle = await bundlePage(fileURLToPath(new URL('storages-page.ts', import.meta.url)))
})

describe('a bundle of core for browsers', () => {
  it('is whole: nothing of Node, and no warnings', () => {
    expect(externalImports(bundle)).toEqual([])
    expect(bundle.warnings).toEqual([])
  })

  it('loads the codecs in JavaScript and WebAssembly only when needed', () => {
    const { atOnce, later } = loading(bundle)
    expect(atOnce.some((name) => name.endsWith('core/src/storage/http.ts'))).toBe(true)
    expect(atOnce.filter((name) => name.includes('node_modules'))).toEqual([])
    expect(later.some((name) => name.includes('/pako/'))).toBe(true)
    expect(later.some((name) => name.includes('zstd'))).toBe(true)
  })
})

describe.skipIf(chromiumPath === undefined)(`storages in Chromium${needsChromium}`, () => {
  let server: RangeServer
  let other: RangeServer
  let tab: TestPage
  let folder: string

  /** Calls a function of the page. */
  function call<K extends keyof Pages>(
    name: K,
    ...args: Parameters<Pages[K]>
  ): Promise<Awaited<ReturnType<Pages[K]>>> {
    return tab.page.evaluate(
      ([method, values]) => {
        const page = (
          globalThis as unknown as { storagesPage: Record<string, (...all: unknown[]) => unknown> }
        ).storagesPage
        return page[method]?.(...values)
      },
      [name, args] as [string, unknown[]],
    ) as Promise<Awaited<ReturnType<Pages[K]>>>
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'img-browser-'))
    server = await startRangeServer(pattern(1_000_000))
    other = await startRangeServer(pattern(1_000_000))
    server.behave = (exchange) => servePage(bundle, exchange) || exchange.serve()
    tab = await openTestPage(server.url)
  })
  afterAll(async () => {
    await tab?.close()
    await Promise.all([server?.close(), other?.close()])
    rmSync(folder, { recursive: true, force: true })
  })

  /** What the page asked the server for beside the page itself. */
  const asked = (from: RangeServer) => from.requests.filter(({ path }) => path.startsWith('/disk'))

  it('reads a Blob', async () => {
    expect(await call('openBlob', 'blob', 700_000, period)).toEqual({ size: 700_000, label: 'blob' })
    expect(await call('countGood', 'blob', 100, period)).toBe(100)
    expect(await call('read', 'blob', 699_999, 2)).toMatchObject({ code: 'IMG_TRUNCATED' })
  })

  it('reads a file that the user picked, and reports one that was changed since', async () => {
    const path = join(folder, 'disk.raw')
    writeFileSync(path, pattern(500_000))
    await tab.page.setInputFiles('input', path)
    expect(await call('openPicked', 'picked')).toEqual({ size: 500_000, label: 'disk.raw' })
    expect(await call('countGood', 'picked', 50, period)).toBe(50)
    await call('openPicked', 'picked')
    writeFileSync(path, pattern(400_000))
    const changed = await call('read', 'picked', 0, 10)
    expect(changed.code).toBe('IMG_IO')
    expect(changed.hint).toContain('picked again')
  })

  it('reads by HTTP ranges from its own origin', async () => {
    expect(await call('openUrl', 'own', '/disk')).toEqual({ size: 1_000_000 })
    expect(await call('countGood', 'own', 60, period)).toBe(60)
    const requests = asked(server)
    expect(requests[0]?.headers).toMatchObject({ range: 'bytes=0-65535', 'accept-encoding': 'identity' })
    expect(requests.slice(1).map(({ headers }) => headers['if-range'])).toEqual(
      requests.slice(1).map(() => '"one"'),
    )
    expect(requests.length).toBeLessThan(20)
  })

  it('notices that the file was changed', async () => {
    await call('openUrl', 'changing', '/disk-2')
    server.etag = '"two"'
    const changed = await call('read', 'changing', 500_000, 10)
    server.etag = '"one"'
    expect(changed.code).toBe('IMG_NETWORK')
    expect(changed.message).toContain('changed while being read')
  })

  it('gives up when told', async () => {
    await call('openUrl', 'slow', '/disk-3')
    server.behave = () => undefined
    expect(await call('abort', 'slow', 500_000)).toEqual({ code: 'RangeError', message: 'enough' })
    server.behave = undefined
    expect(await call('read', 'slow', 500_000, 10)).toEqual({})
  })

  it('reads from another origin that allows no more than that, asking for no leave', async () => {
    other.behave = ({ serve }) => serve({ 'access-control-allow-origin': '*' })
    expect(await call('openUrl', 'other', `${other.url}/disk`)).toEqual({ size: 1_000_000 })
    expect(await call('countGood', 'other', 40, period)).toBe(40)
    expect(new Set(asked(other).map(({ method }) => method))).toEqual(new Set(['GET', 'HEAD']))
    other.lastModified = 'Sun, 02 Jan 2022 00:00:00 GMT'
    await call('openUrl', 'other', `${other.url}/disk-2`)
    other.lastModified = 'Mon, 03 Jan 2022 00:00:00 GMT'
    expect((await call('read', 'other', 500_000, 10)).message).toContain('changed while being read')
  })

  it('refuses what another origin compressed or cut, although it cannot see the headers that say so', async () => {
    const allowed = { 'access-control-allow-origin': '*', 'content-range': 'bytes 0-65535/1000000' }
    other.behave = ({ response }) =>
      response.writeHead(206, { ...allowed, 'content-encoding': 'gzip' }).end(gzipSync(pattern(65536)))
    const compressed = await call('openUrl', 'bad', `${other.url}/disk-3`, { retries: 0 })
    expect(compressed.code).toBe('IMG_NETWORK')
    other.behave = ({ request, response, serve }) => {
      if (request.method === 'HEAD') serve(allowed)
      else response.writeHead(206, allowed).end(pattern(1000))
    }
    const cut = await call('openUrl', 'bad', `${other.url}/disk-4`, { retries: 0 })
    expect(cut.code).toBe('IMG_TRUNCATED')
    expect(cut.message).toContain('1000 of 65536 bytes')
  })

  it('says what the other origin must allow where it does not', async () => {
    other.behave = ({ serve }) => serve()
    const refused = await call('openUrl', 'refused', `${other.url}/disk`, { retries: 0 })
    expect(refused.code).toBe('IMG_NETWORK')
    expect(refused.hint).toContain('Access-Control-Allow-Origin')
  })

  it('is disposed of', async () => {
    expect(await call('dispose')).toMatchObject({ code: 'IMG_CLOSED' })
  })

  it('makes no errors of its own', () => {
    expect(tab.complaints).toEqual([])
  })
})
