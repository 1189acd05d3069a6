import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'
import type { Format, Magic, ProbeInput } from '../src/format.js'
import { officialFormats } from '../src/official.js'
import { matchesMagic, probeFormat } from '../src/probe.js'
import { createRegistry, type LazyFormat } from '../src/registry.js'
import { memoryStorage } from '../src/storage/memory.js'
import { expectCode } from './storage-contract.js'
import { join, pattern } from './support/disks.js'
import { hookedStorage } from './support/hooked-storage.js'
import { toy } from './toy-format.js'

const text = (words: string): Uint8Array => new TextEncoder().encode(words)
const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16))

/** A format that is recognised by what stands at an offset from the start, or from the end where negative. */
function marked(name: string, offset: number, mark: string, head?: number): Format {
  return {
    apiVersion: 1,
    name,
    title: name,
    extensions: [],
    magic: [],
    probe: {
      head: head ?? (offset < 0 ? 0 : offset + mark.length),
      ...(offset < 0 && { tail: -offset }),
      matches: ({ head, tail }: ProbeInput) => {
        const bytes = offset < 0 ? tail : head.subarray(offset)
        return new TextDecoder().decode(bytes.subarray(0, mark.length)) === mark
      },
    },
    open: () => Promise.reject(new Error('not to be opened')),
  }
}

function lazy(format: Format, magic: readonly Magic[]): LazyFormat {
  return { manifest: { name: format.name, magic }, load: async () => format }
}

describe('probeFormat', () => {
  it('finds a format by its start, or by its end', async () => {
    const [start, end] = [marked('start', 0, 'BEGIN'), marked('end', -512, 'conectix')]
    const registry = createRegistry([start, end])
    expect(await probeFormat(memoryStorage(join(text('BEGIN'), pattern(100))), { registry })).toBe(start)
    expect(
      await probeFormat(memoryStorage(join(pattern(9000), text('conectix'), pattern(504))), { registry }),
    ).toBe(end)
  })

  it('guesses nothing', async () => {
    const registry = createRegistry([toy])
    for (const size of [0, 1, 3, 511, 4095, 4097, 100_000])
      expect(await probeFormat(memoryStorage(new Uint8Array(size)), { registry })).toBeUndefined()
  })

  it('gives a probe what it wants to see, beyond the first look and no more than there is', async () => {
    const far = marked('far', 65536, 'FAR')
    const registry = createRegistry([far])
    const big = memoryStorage(join(pattern(65536), text('FAR'), pattern(1000)))
    expect(await probeFormat(big, { registry })).toBe(far)
    const seen: ProbeInput[] = []
    const curious: Format = {
      ...far,
      probe: {
        head: 100_000,
        tail: 700,
        matches(input) {
          seen.push(input)
          return false
        },
      },
    }
    await probeFormat(memoryStorage(pattern(5000), { label: 'mine' }), {
      registry: createRegistry([curious]),
    })
    expect(seen[0]).toMatchObject({ size: 5000, label: 'mine' })
    expect(seen[0]?.head).toEqual(pattern(5000))
    expect(seen[0]?.tail).toEqual(pattern(5000).subarray(4300))
    await probeFormat(big, { registry: createRegistry([marked('small', 0, 'AB'), curious]) })
    expect(seen[1]?.head.length).toBe(66539)
  })

  it('reads a few pages only, once', async () => {
    const reads: number[] = []
    const storage = hookedStorage(memoryStorage(new Uint8Array(10_000_000)), {
      before: ({ length }) => void reads.push(length),
    })
    await probeFormat(storage, { registry: createRegistry([toy]) })
    expect(reads).toEqual([4096, 4096])
    reads.length = 0
    await probeFormat(storage, { registry: createRegistry([marked('greedy', 0, 'X', 1e9)]) })
    expect(Math.max(...reads)).toBe(1024 * 1024)
  })

  it('loads the one plugin whose magic number is there, also far inside', async () => {
    const iso = marked('iso', 32769, 'CD001')
    const vhd = marked('vhd', -20_000, 'conectix')
    const registry = createRegistry()
    registry.registerLazy(lazy(iso, [{ offset: 32769, hex: '4344303031' }]))
    registry.registerLazy(lazy(vhd, [{ offset: -20_000, hex: '636f6e6563746978' }]))
    registry.registerLazy(lazy(toy, toy.magic))
    const file = memoryStorage(join(pattern(32769), text('CD001'), pattern(40_000)))
    expect(await probeFormat(file, { registry })).toBe(iso)
    expect(registry.formats).toEqual([iso])
    expect(
      await probeFormat(memoryStorage(join(pattern(9000), text('conectix'), pattern(19_992))), { registry }),
    ).toBe(vhd)
  })

  it('refuses to choose between two', async () => {
    const registry = createRegistry([marked('start', 0, 'BEGIN'), marked('end', -4, 'STOP')])
    const error = await expectCode(
      () => probeFormat(memoryStorage(text('BEGIN and STOP'), { label: 'odd' }), { registry }),
      'IMG_AMBIGUOUS_FORMAT',
    )
    expect(error).toMatchObject({ source: 'odd', message: 'odd looks like start and end' })
    // One of the two need not be installed.
    const half = join(bytesOf('514649fb00000003'), text('STOP'))
    const other = await expectCode(
      () => probeFormat(memoryStorage(half), { registry }),
      'IMG_AMBIGUOUS_FORMAT',
    )
    expect(other.message).toContain('end and qcow2')
  })

  it.each(officialFormats.flatMap(({ name, magic = [] }) => magic.map((one) => [name, one] as const)))(
    'names the package for a file of %s that is not installed: %o',
    async (name, { offset, hex }) => {
      const file = memoryStorage(join(new Uint8Array(offset), bytesOf(hex), new Uint8Array(2000)), {
        label: 'disk',
      })
      const error = await expectCode(
        () => probeFormat(file, { registry: createRegistry([toy]) }),
        'IMG_PLUGIN_MISSING',
      )
      expect(error).toMatchObject({
        format: name,
        source: 'disk',
        hint: `install it: npm install @img/${name}`,
      })
      expect(error.message).toMatch(/^disk: /)
    },
  )

  it('asks the plugin there is, where it rejects a file with the magic number', async () => {
    const file = memoryStorage(join(bytesOf('514649fb00000003'), pattern(500)))
    expect(
      await probeFormat(file, { registry: createRegistry([marked('qcow2', 0, 'not this')]) }),
    ).toBeUndefined()
    const registry = createRegistry()
    registry.registerLazy(lazy(marked('qcow2', 0, 'not this'), [{ offset: 0, hex: 'ffff' }]))
    expect(await probeFormat(file, { registry })).toBeUndefined()
  })

  it('tells of a plugin that cannot be loaded, where the file may be its own', async () => {
    const registry = createRegistry()
    const magic = [{ offset: 0, hex: '00' }]
    registry.registerLazy({ manifest: { name: 'x', magic }, load: () => Promise.reject(new Error('broken')) })
    expect(await probeFormat(memoryStorage(text('no')), { registry })).toBeUndefined()
    await expectCode(
      () => probeFormat(memoryStorage(new Uint8Array(9)), { registry }),
      'IMG_PLUGIN_INCOMPATIBLE',
    )
  })

  it('passes read errors and aborts on', async () => {
    const reason = new Error('enough')
    const storage = memoryStorage(pattern(100))
    await expect(probeFormat(storage, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await storage.close()
    await expect(
      probeFormat(hookedStorage(memoryStorage(pattern(9)), { before: () => Promise.reject(reason) })),
    ).rejects.toBe(reason)
  })

  it('gives an answer for any bytes', async () => {
    const registry = createRegistry([toy, marked('end', -4, 'STOP'), marked('start', 0, 'B')])
    const start = fc.constantFrom('', 'TOYD', 'B', '514649fb00000002', '4b444d56', '4c4142454c4f4e45')
    await fc.assert(
      fc.asyncProperty(start, fc.uint8Array({ maxLength: 5000 }), fc.boolean(), async (head, body, stop) => {
        const bytes = join(
          /^[0-9a-f]{8,}$/.test(head) ? bytesOf(head) : text(head),
          body,
          text(stop ? 'STOP' : ''),
        )
        try {
          const found = await probeFormat(memoryStorage(bytes), { registry })
          expect([undefined, 'toy', 'end', 'start']).toContain(found?.name)
        } catch (error) {
          if (!ImageError.is(error)) throw error
          expect(['IMG_AMBIGUOUS_FORMAT', 'IMG_PLUGIN_MISSING']).toContain(error.code)
        }
      }),
    )
  })
})

describe('matchesMagic', () => {
  const [head, tail] = [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(5, 6, 7, 8)]

  it.each([
    [0, '01', true],
    [2, '0304', true],
    [3, '0405', false],
    [9, '01', false],
    [-1, '08', true],
    [-4, '05060708', true],
    [-2, '0809', false],
    [-5, '00', false],
    [0, '01FF', false],
    [1, '', true],
  ])('%d %s is %s', (offset, hex, matches) => {
    expect(matchesMagic({ offset, hex }, head, tail)).toBe(matches)
  })
})
