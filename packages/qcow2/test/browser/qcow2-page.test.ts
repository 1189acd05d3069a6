import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { convert, createWriter, memoryStorage } from '@img/core'
import { content, openRaw, patternDisk } from '@tooling/test-disks/disks'
import { assertClean, hasQemu } from '@tooling/test-disks/qemu'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type Bundle,
  bundlePage,
  externalImports,
  loading,
  servePage,
} from '../../../core/test/browser/bundle.js'
import {
  chromiumPath,
  needsChromium,
  openTestPage,
  type TestPage,
} from '../../../core/test/browser/chromium.js'
import { type RangeServer, startRangeServer } from '../../../core/test/support/range-server.js'
import { qcow2 } from '../../src/format.js'
import { openQcow2 } from '../support/disks.js'
import type { qcow2Page } from './qcow2-page.js'

type Pages = typeof qcow2Page

const disk = patternDisk(3 * 1024 * 1024, 5)
const sha256 = createHash('sha256').update(disk).digest('hex')
/** A sector of text-like data. */
const sector = disk.findIndex((byte, i) => i % 512 === 0 && byte >= 97) / 512
const sectorBytes = [...disk.subarray(sector * 512, sector * 512 + 512)]

const variants = [
  { name: 'plain', options: {}, compress: false, kinds: ['data', 'unallocated'] },
  { name: 'zlib', options: {}, compress: true, kinds: ['compressed', 'data', 'unallocated'] },
  {
    name: 'zstd',
    options: { compression_type: 'zstd' },
    compress: true,
    kinds: ['compressed', 'data', 'unallocated'],
  },
] as const

let bundle: Bundle

beforeAll(async () => {
  bundle = await bundlePage(fileURLToPath(new URL('qcow2-page.ts', import.meta.url)))
})

describe('a bundle of core and qcow2 for browsers', () => {
  it('is whole: nothing of Node, and no warnings', () => {
    expect(externalImports(bundle)).toEqual([])
    expect(bundle.warnings).toEqual([])
  })

  it('loads pako and the WebAssembly of zstd only when a compressed cluster is read', () => {
    const { atOnce, later } = loading(bundle)
    expect(atOnce).toContain('packages/qcow2/src/format.ts')
    expect(atOnce.filter((name) => name.includes('node_modules'))).toEqual([])
    expect(later.some((name) => name.includes('/pako/'))).toBe(true)
    expect(later.some((name) => name.includes('zstd'))).toBe(true)
  })
})

describe.skipIf(chromiumPath === undefined)(`qcow2 in Chromium${needsChromium}`, () => {
  let server: RangeServer
  let tab: TestPage
  let folder: string
  const images = new Map<string, Uint8Array>()

  function call<K extends keyof Pages>(
    name: K,
    ...args: Parameters<Pages[K]>
  ): Promise<Awaited<ReturnType<Pages[K]>>> {
    return tab.page.evaluate(
      ([method, values]) => {
        const page = (globalThis as unknown as { qcow2Page: Record<string, (...all: unknown[]) => unknown> })
          .qcow2Page
        return page[method]?.(...values)
      },
      [name, args] as [string, unknown[]],
    ) as Promise<Awaited<ReturnType<Pages[K]>>>
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'qcow2-browser-'))
    for (const { name, options, compress } of variants) {
      const target = memoryStorage()
      await using source = await openRaw(disk)
      await convert(source, await createWriter(qcow2, target, { size: disk.length, options, compress }))
      images.set(name, target.bytes())
    }
    server = await startRangeServer(new Uint8Array(0))
    server.behave = (exchange) => {
      if (servePage(bundle, exchange)) return
      server.content = images.get(exchange.request.url?.slice(1) ?? '') ?? new Uint8Array(0)
      exchange.serve()
    }
    tab = await openTestPage(server.url)
  })
  afterAll(async () => {
    await tab?.close()
    await server?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  for (const { name, kinds } of variants) {
    it(`opens a file that the user picked and reads a sector: ${name}`, async () => {
      const path = join(folder, `${name}.qcow2`)
      writeFileSync(path, images.get(name) ?? '')
      await tab.page.setInputFiles('input', path)
      expect(await call('fromFile', sector)).toEqual({
        format: 'qcow2',
        label: `${name}.qcow2`,
        size: disk.length,
        sha256,
        sector: sectorBytes,
        kinds,
      })
    })

    it(`reads by HTTP: ${name}`, async () => {
      expect(await call('fromUrl', `/${name}`, sector)).toMatchObject({ sha256, sector: sectorBytes, kinds })
    })
  }

  for (const { name, options, compress } of variants) {
    it(`converts, ${compress ? `compressing with ${name}` : 'as it is'}`, async () => {
      const bytes = new Uint8Array(Buffer.from(await call('convert', '/plain', options, compress), 'base64'))
      await using image = await openQcow2(memoryStorage(bytes))
      expect(Buffer.compare(await content(image), disk)).toBe(0)
      if (!hasQemu) return
      const path = join(folder, `${name}-new.qcow2`)
      writeFileSync(path, bytes)
      assertClean('qcow2', path)
    })
  }

  it('makes no errors of its own', () => {
    expect(tab.complaints).toEqual([])
  })
})
