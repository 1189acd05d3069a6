import { describe, expect, it } from 'vitest'
import { Descriptor } from '../src/descriptor.js'

const names: [encoding: string, name: string][] = [
  ['windows-1252', 'Größe.vmdk'],
  ['Shift_JIS', 'ディスク表.vmdk'],
  ['windows-1251', 'диск.vmdk'],
  ['GBK', '磁盘.vmdk'],
  ['Big5', '磁碟.vmdk'],
  ['EUC-KR', '디스크.vmdk'],
  ['UTF-8', 'Größe ディスク 💾.vmdk'],
]

describe('encodings', () => {
  for (const [encoding, name] of names) {
    it(`${encoding}: written and read, all other bytes kept`, () => {
      const text = `# Disk DescriptorFile\r\nversion=1\r\nencoding="${encoding}"\r\nCID=1\r\nx="\xe9\x83\xff"\r\n`
      const bytes = Uint8Array.from(`${text}RW 8 FLAT "plain.vmdk" 0\r\n`, (c) => c.charCodeAt(0))
      const descriptor = Descriptor.parse(bytes, 'test')
      const flat = { access: 'RW', type: 'FLAT', startSector: 0 } as const
      descriptor.set('parentFileNameHint', name, 'CID')
      descriptor.addExtent({ ...flat, sectors: 16, file: name })
      const written = descriptor.serialise()
      const again = Descriptor.parse(written, 'test')
      expect(again.get('parentFileNameHint')).toBe(name)
      expect(again.extents()[1]).toEqual({ ...flat, sectors: 16, file: name })
      again.delete('parentFileNameHint')
      again.dropExtents(1)
      expect(again.serialise()).toEqual(bytes)
    })
  }

  it('refuses what the encoding has no bytes for', () => {
    for (const [encoding, name] of [
      ['windows-1252', '磁盘'],
      ['klingon', 'é'],
      ['Shift_JIS', 'é'],
    ]) {
      const bytes = new TextEncoder().encode(`version=1\nencoding="${encoding}"\nCID=1\n`)
      const descriptor = Descriptor.parse(bytes, 'test')
      expect(() => descriptor.set('parentFileNameHint', name as string)).toThrow(/cannot be written/)
      expect(descriptor.serialise()).toEqual(bytes)
    }
  })
})

describe('lines', () => {
  for (const end of ['\n', '\r\n', '\r']) {
    for (const last of [end, '']) {
      it(`ended by ${JSON.stringify(end)}, the last by ${JSON.stringify(last)}, stay as they are`, () => {
        const lines = [
          '# Disk DescriptorFile',
          ' version = 1 ',
          'cid=0x000A',
          'unknown key = "a = b"',
          '',
          'RDONLY 8 ZERO',
          'noaccess 8 FLAT "a b.vmdk" 4 ',
          'RW 16\tSPARSE\t"s.vmdk"',
        ]
        const bytes = new TextEncoder().encode(lines.join(end) + last)
        const descriptor = Descriptor.parse(bytes, 'test')
        expect(descriptor.serialise()).toEqual(bytes)
        expect(descriptor.cid('CID')).toBe(10)
        expect(descriptor.get('Unknown Key')).toBe('a = b')
        expect(descriptor.extents().map(({ access, file }) => [access, file])).toEqual([
          ['RDONLY', undefined],
          ['NOACCESS', 'a b.vmdk'],
          ['RW', 's.vmdk'],
        ])
        descriptor.setExtentSectors(2, 32)
        descriptor.addExtent({ access: 'RW', sectors: 1, type: 'SPARSE', file: 't.vmdk', startSector: 0 })
        descriptor.dropExtents(3)
        const kept = new TextDecoder().decode(descriptor.serialise())
        const changed = lines.join(end).replace('RW 16', 'RW 32')
        expect(kept).toBe(`${changed}${end}`)
      })
    }
  }

  it('refuses extents that make no sense, each line of them', () => {
    for (const line of [
      'RW -8 FLAT "a" 0',
      'RW 8',
      'RW 8 FLAT "a',
      'RW 99999999999999999999 ZERO',
      'RW 8x FLAT "a" 0',
      'RW 8 FLAT "a" 99999999999999999999',
    ]) {
      const descriptor = Descriptor.parse(new TextEncoder().encode(`version=1\nRW 8 ZERO\n${line}\n`), 'test')
      expect(() => descriptor.extents(), line).toThrow()
    }
  })
})
