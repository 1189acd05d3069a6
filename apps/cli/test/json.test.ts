import { describe, expect, it } from 'vitest'
import { entriesInOrder, qemuJson } from '../src/output/json.js'
import { dumpSpecific } from '../src/output/specific.js'
import { fixtures, hasFixtures } from './support/fixtures.js'

describe('qemuJson', () => {
  // What qemu-img info --output=json printed.
  it('prints as qemu-img does: its order of keys, empty lists, ASCII only', () => {
    const printed = `{
    "snapshots": [
        {
            "icount": 0,
            "vm-clock-nsec": 0,
            "name": "sn\\u00E4p \\"x\\"\\ttab \\u001B \\u007F \\uD83D\\uDCBE \\\\u001b",
            "date-sec": 1795368727,
            "date-nsec": 933856000,
            "vm-clock-sec": 0,
            "id": "1",
            "vm-state-size": 0
        }
    ],
    "virtual-size": 1048576,
    "filename": "d/a.qcow2",
    "cluster-size": 65536,
    "format": "qcow2",
    "actual-size": 229376,
    "format-specific": {
        "type": "qcow2",
        "data": {
            "compat": "1.1",
            "compression-type": "zlib",
            "lazy-refcounts": false,
            "bitmaps": [
                {
                    "flags": [
                    ],
                    "name": "b0",
                    "granularity": 65536
                }
            ],
            "refcount-bits": 16,
            "corrupt": false,
            "extended-l2": false
        }
    },
    "full-backing-filename": "d/base",
    "encrypted": true,
    "backing-filename": "base",
    "dirty-flag": false
}`
    const parsed = JSON.parse(printed) as Record<string, never>
    const shuffled = Object.fromEntries(Object.entries(parsed).reverse())
    expect(qemuJson(shuffled)).toBe(printed)
  })

  it('leaves out what is undefined', () => {
    expect(qemuJson({ a: undefined, b: 1 })).toBe('{\n    "b": 1\n}')
  })

  it.skipIf(!hasFixtures)(
    'orders keys as all recorded answers have them (skipped without the collection)',
    () => {
      let objects = 0
      const check = (value: unknown): void => {
        if (Array.isArray(value)) value.forEach(check)
        else if (typeof value === 'object' && value !== null) {
          objects++
          const keys = Object.keys(value)
          expect(entriesInOrder(value as never).map(([key]) => key)).toEqual(keys)
          Object.values(value).forEach(check)
        }
      }
      for (const { info } of fixtures) check(info?.json)
      expect(objects).toBeGreaterThan(100)
    },
  )
})

describe('dumpSpecific', () => {
  it('prints nested data as qemu-img does', () => {
    expect(
      dumpSpecific({
        compat: '1.1',
        'refcount-bits': 16,
        corrupt: false,
        bitmaps: [
          { flags: ['in-use', 'auto'], name: 'second-one', granularity: 4096 },
          { flags: [], name: 'b', granularity: 65536 },
        ],
        encrypt: { format: 'luks', slots: [{ active: false, 'key-offset': 1 }] },
      }),
    ).toBe(`    compat: 1.1
    bitmaps:
        [0]:
            flags:
                [0]: in-use
                [1]: auto
            name: second-one
            granularity: 4096
        [1]:
            flags:
            name: b
            granularity: 65536
    refcount bits: 16
    encrypt:
        format: luks
        slots:
            [0]:
                active: false
                key offset: 1
    corrupt: false
`)
  })
})
