import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { humanSize, sizeArgument } from '../src/sizes.js'

describe('humanSize', () => {
  // Printed by qemu-img info.
  it.each([
    [0, '0 B'],
    [512, '512 B'],
    [999, '999 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [200704, '196 KiB'],
    [1023488, '1e+03 KiB'],
    [1024000, '0.977 MiB'],
    [1048064, '1 MiB'],
    [1072693248, '0.999 GiB'],
    [1207959552, '1.12 GiB'],
    [1046898688, '998 MiB'],
    [1073217536, '1 GiB'],
    [1099511627776, '1 TiB'],
    [9007199254740991, '8 PiB'],
  ])('%d is %s', (bytes, text) => {
    expect(humanSize(bytes)).toBe(text)
  })

  it('is within half a unit of the third digit, whatever the size', () => {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        const [number = '', unit = ''] = humanSize(bytes).split(' ')
        const value = Number(number) * 1024 ** units.indexOf(unit)
        expect(Math.abs(value - bytes)).toBeLessThanOrEqual(bytes * 0.0051)
        expect(number.replace(/e\+03$/, '').replace(/^0\.|\./, '').length).toBeLessThanOrEqual(3)
      }),
    )
  })
})

describe('sizeArgument', () => {
  it.each([
    ['0', 0],
    ['1000', 1000],
    ['64k', 65536],
    ['64K', 65536],
    ['1.5G', 1610612736],
    ['1.k', 1024],
    [' +1k', 1024],
    ['010', 10],
    ['0x10', 16],
    ['512b', 512],
    ['7P', 7 * 2 ** 50],
  ])('takes %s', (text, bytes) => {
    expect(sizeArgument('image size', text)).toBe(bytes)
  })

  it.each(['', 'x', '1X', '1.5', 'k', '1k5', '-1', '-1G', '--1', '1 k', '.5k', '1e3'])(
    'refuses %j as qemu-img does',
    (text) => {
      expect(() => sizeArgument('image size', text)).toThrow(
        expect.objectContaining({
          message: 'Invalid image size specified. You may use k, M, G, T, P or E suffixes for',
          more: ['kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.'],
          exit: 1,
        }),
      )
    },
  )

  it.each(['9E', '16E', '8P', '99999999999999999999'])('says that %s is out of bounds', (text) => {
    expect(() => sizeArgument('start offset', text)).toThrow(
      'Invalid start offset specified. Must be between 0 and 9007199254740991.',
    )
  })
})
