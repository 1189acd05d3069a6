import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Descriptor, parseDescriptor } from '../src/descriptor.js'
import { networks, virtualSystems } from '../src/hardware.js'
import { unitBytes } from '../src/units.js'
import { descriptor, utf8 } from './support/build.js'

const files = '<File ovf:id="f" ovf:href="a.vmdk" ovf:size="10"/>'

function parse(disks: string, options: Parameters<typeof descriptor>[2] = {}): Descriptor {
  return parseDescriptor(descriptor(files, disks, options).bytes, 'x.ovf')
}

function refused(xml: string | Uint8Array, code: string): void {
  const bytes = typeof xml === 'string' ? utf8(xml) : xml
  expect(() => parseDescriptor(bytes, 'x.ovf')).toThrow(expect.objectContaining({ name: 'ImageError', code }))
}

describe('units', () => {
  it.each([
    ['byte', 1],
    ['bytes', 1],
    ['Byte', 1],
    ['byte * 2^10', 1024],
    ['byte * 2^20', 2 ** 20],
    ['byte*2^30', 2 ** 30],
    ['bytes * 2^30', 2 ** 30],
    ['byte * 10^9', 1e9],
    ['byte * 1024', 1024],
    [' byte *  2 ^ 40 ', 2 ** 40],
    ['byte * 2^10 * 2^10', 2 ** 20],
    ['byte * 2^20 / 2^10', 1024],
    ['KiloBytes', 1024],
    ['MegaBytes', 2 ** 20],
    ['GigaBytes', 2 ** 30],
    ['TeraBytes', 2 ** 40],
    ['MB', 2 ** 20],
    ['GB', 2 ** 30],
  ])('%s are %d bytes', (text, bytes) => {
    expect(unitBytes(text)).toBe(bytes)
  })

  it.each([
    'hertz',
    'byte ^ 2',
    '2^20',
    'byte * 2^2000',
    'byte * x',
    'byte / 3',
    'byte * 0',
    '',
    '__proto__',
  ])('%j are none', (text) => {
    expect(unitBytes(text)).toBeUndefined()
  })
})

describe('disks', () => {
  it('have their capacity in bytes, in units, or by a property', () => {
    const tail =
      '<ProductSection><Info/><Property ovf:key="size" ovf:value="7"/><Property ovf:key="later"/></ProductSection>'
    const value = (key: string): string => `ovf:capacity="\${${key}}"`
    const { disks } = parse(
      '<Disk ovf:diskId="a" ovf:fileRef="f" ovf:capacity="512"/>' +
        '<Disk ovf:diskId="b" ovf:capacity="3" ovf:capacityAllocationUnits="byte * 2^30"/>' +
        `<Disk ovf:diskId="c" ${value('size')} ovf:capacityAllocationUnits="MegaBytes"/>` +
        `<Disk ovf:diskId="d" ${value('later')}/>` +
        '<Disk ovf:diskId="e" ovf:capacity="0" ovf:capacityAllocationUnits=""/>',
      { tail },
    )
    expect(disks.map(({ capacity }) => capacity)).toEqual([512, 3 * 2 ** 30, 7 * 2 ** 20, undefined, 0])
    expect(disks.map(({ number, file }) => [number, file?.href])).toEqual([
      [1, 'a.vmdk'],
      [2, undefined],
      [3, undefined],
      [4, undefined],
      [5, undefined],
    ])
  })

  it.each([
    ['no id', '<Disk ovf:capacity="1"/>'],
    ['no capacity', '<Disk ovf:diskId="a"/>'],
    ['a capacity that is no number', '<Disk ovf:diskId="a" ovf:capacity="1.5"/>'],
    ['a negative capacity', '<Disk ovf:diskId="a" ovf:capacity="-1"/>'],
    ['a file that is none', '<Disk ovf:diskId="a" ovf:fileRef="g" ovf:capacity="1"/>'],
    ['an id twice', '<Disk ovf:diskId="a" ovf:capacity="1"/><Disk ovf:diskId="a" ovf:capacity="1"/>'],
  ])('are refused with %s', (_, disks) => {
    refused(descriptor(files, disks).bytes, 'IMG_CORRUPT')
  })

  it('are refused in units that are unknown, and too large', () => {
    const disk = (rest: string): Uint8Array => descriptor(files, `<Disk ovf:diskId="a" ${rest}/>`).bytes
    refused(disk('ovf:capacity="1" ovf:capacityAllocationUnits="furlong"'), 'IMG_UNSUPPORTED')
    refused(disk('ovf:capacity="9999999" ovf:capacityAllocationUnits="byte * 2^40"'), 'IMG_UNSUPPORTED_SIZE')
    refused(disk('ovf:capacity="99999999999999999999"'), 'IMG_CORRUPT')
  })

  it('are refused where files have no id, no name, one id, or chunks of nothing', () => {
    for (const bad of [
      '<File ovf:href="a"/>',
      '<File ovf:id="a"/>',
      '<File ovf:id="a" ovf:href=""/>',
      '<File ovf:id="a" ovf:href="a"/><File ovf:id="a" ovf:href="b"/>',
      '<File ovf:id="a" ovf:href="a" ovf:chunkSize="0"/>',
      '<File ovf:id="a" ovf:href="a" ovf:size="x"/>',
    ]) {
      refused(descriptor(bad, '').bytes, 'IMG_CORRUPT')
    }
  })
})

describe('XML', () => {
  const plain = descriptor(files, '').bytes

  it('may be UTF-8 with a mark, or UTF-16', () => {
    const text = new TextDecoder().decode(plain).replace('<?xml version="1.0"?>', '')
    const wide = new Uint8Array(2 + text.length * 2)
    for (let i = 0; i < text.length; i++) wide[2 + i * 2] = text.charCodeAt(i)
    wide.set([0xff, 0xfe])
    const swapped = wide.map((_, i) => wide[i % 2 === 0 ? i + 1 : i - 1] as number)
    for (const bytes of [plain, utf8(`\ufeff${text}`), wide, swapped]) {
      expect(parseDescriptor(bytes, 'x').files).toHaveLength(1)
    }
  })

  it('is refused where it is not well-formed', () => {
    const text = new TextDecoder().decode(plain)
    refused('', 'IMG_CORRUPT')
    refused('<a>', 'IMG_CORRUPT')
    refused(text.replace('</References>', ''), 'IMG_CORRUPT')
    refused(text.replace('ovf:size="10"', 'ovf:size="&nope;"'), 'IMG_CORRUPT')
    refused(text.replace('ovf:size="10"', 'other:size="10"'), 'IMG_CORRUPT')
    refused(`${text}<Envelope/>`, 'IMG_CORRUPT')
    refused(Uint8Array.of(0x3c, 0x61, 0xff, 0x3e), 'IMG_CORRUPT')
    refused('<?xml version="1.0" encoding="koi8-r"?><a/>', 'IMG_UNSUPPORTED')
  })

  it('is refused at any place where it is cut', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: plain.length - 1 }), (at) => {
        expect(() => parseDescriptor(plain.subarray(0, at), 'x')).toThrow(
          expect.objectContaining({ name: 'ImageError' }),
        )
      }),
    )
  })

  it('is refused with a document type, whatever that says', () => {
    for (const head of [
      '<!DOCTYPE Envelope>',
      '<!DOCTYPE Envelope SYSTEM "file:///etc/passwd">',
      '<!DOCTYPE Envelope [<!ENTITY a "aaaa">]>',
      '<!DOCTYPE Envelope [<!ENTITY % p SYSTEM "http://host/p"> %p;]>',
    ]) {
      refused(descriptor(files, '', { head }).bytes, 'IMG_UNSUPPORTED')
    }
  })

  it('is refused where it is deep or has more elements than any descriptor', () => {
    refused('<a>'.repeat(100_000), 'IMG_CORRUPT')
    refused(descriptor(files, '<x/>'.repeat(260_000)).bytes, 'IMG_CORRUPT')
    const attributes = Array.from({ length: 260_000 }, (_, i) => `a${i}=""`).join(' ')
    refused(descriptor(files, `<x ${attributes}/>`).bytes, 'IMG_CORRUPT')
  })

  it('of other namespaces counts for nothing beside the standard', () => {
    const xml = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:x="x">
      <x:References><x:File ovf:id="no" ovf:href="no"/></x:References>
      <References><x:File ovf:id="no" ovf:href="no"/><File x:href="evil" ovf:id="f" ovf:href="good" x:id="g" id="h"/></References>
      <x:DiskSection><Disk ovf:diskId="no" ovf:capacity="1"/></x:DiskSection></Envelope>`
    const { files, disks } = parseDescriptor(utf8(xml), 'x')
    expect(files.map(({ href }) => href)).toEqual(['good'])
    expect(files[0]?.id).not.toBe('g')
    expect(disks).toEqual([])
  })

  it('of other kinds and versions is refused', () => {
    refused('<html/>', 'IMG_NOT_THIS_FORMAT')
    refused('<Envelope/>', 'IMG_UNSUPPORTED')
    refused(
      descriptor(files, '', { space: 'http://schemas.dmtf.org/ovf/envelope/3' }).bytes,
      'IMG_UNSUPPORTED',
    )
    expect(parse('', { space: 'http://schemas.dmtf.org/ovf/envelope/2' }).version).toBe(2)
  })
})

describe('machines', () => {
  it('are told of with their hardware under its own names, settings and networks', () => {
    const xml = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
      xmlns:rasd="r" xmlns:vmw="v"><NetworkSection><Network ovf:name="lan"><Description>A &lt;lan></Description></Network></NetworkSection>
      <VirtualSystemCollection ovf:id="all"><VirtualSystem ovf:id="one"><Name>One</Name>
      <VirtualHardwareSection><Item ovf:required="false" ovf:configuration="big"><rasd:ElementName>cpu</rasd:ElementName>
      <rasd:HostResource>a</rasd:HostResource><rasd:HostResource>b</rasd:HostResource>
      <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation><rasd:InstanceID>1</rasd:InstanceID>
      <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity>
      <vmw:Config vmw:key="hot" vmw:value="yes"/><__proto__>x</__proto__></Item><vmw:Config vmw:key="firmware" vmw:value="efi"/>
      </VirtualHardwareSection></VirtualSystem><VirtualSystem ovf:id="two"/></VirtualSystemCollection></Envelope>`
    const { root } = parseDescriptor(utf8(xml), 'x')
    expect(networks(root)).toEqual([{ name: 'lan', description: 'A <lan>' }])
    const [one, two] = virtualSystems(root)
    expect(two).toEqual({ id: 'two', hardware: [] })
    expect(one).toMatchObject({
      id: 'one',
      name: 'One',
      configuration: { firmware: 'efi' },
      hardware: [
        {
          resource: 'processor',
          'element-name': 'cpu',
          'host-resource': ['a', 'b'],
          'automatic-allocation': true,
          'instance-id': '1',
          'resource-type': 3,
          'virtual-quantity': 4,
          'for-configuration': 'big',
          required: false,
          configuration: { hot: 'yes' },
        },
      ],
    })
  })
})
