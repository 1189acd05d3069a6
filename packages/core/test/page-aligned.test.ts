import { afterEach, describe, expect, it, vi } from 'vitest'
import { pageAligned } from '../src/index.js'

afterEach(() => vi.unstubAllGlobals())

describe('page-aligned memory', () => {
  it.each([0, 1, 4096, 131072, 131073, 8 * 1024 * 1024 + 5])('has %i bytes of zeros', (length) => {
    for (const shared of [false, true]) {
      const bytes = pageAligned(length, { shared })
      expect(bytes.length).toBe(length)
      expect(bytes.byteOffset).toBe(0)
      expect(bytes.every((byte) => byte === 0)).toBe(true)
      bytes.fill(7)
      expect(bytes.buffer instanceof SharedArrayBuffer).toBe(shared)
    }
  })

  it.each([false, true])(
    'is ordinary memory where a host has no address space for more (shared: %s)',
    (shared) => {
      class Memory {
        constructor() {
          throw new RangeError('could not allocate memory')
        }
      }
      vi.stubGlobal('WebAssembly', { Memory })
      expect(pageAligned(1024 * 1024, { shared }).length).toBe(1024 * 1024)
      vi.stubGlobal('WebAssembly', undefined)
      expect(pageAligned(1024 * 1024, { shared }).length).toBe(1024 * 1024)
    },
  )
})
