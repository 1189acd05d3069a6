import { type Format, officialFormats } from '@img/core'

/** A file that is of no disk-image format, or of another one. */
export interface Stranger {
  readonly name: string
  readonly bytes: Uint8Array
}

/** First bytes of files that are no disk images: from the specifications of each. */
const heads: readonly (readonly [string, string])[] = [
  ['a PNG picture', '89504e470d0a1a0a0000000d49484452'],
  ['a ZIP archive', '504b0304140000000800'],
  ['a gzip file', '1f8b0800000000000003'],
  ['a program (ELF)', '7f454c4602010100000000000000000003003e00'],
  ['a program (PE)', '4d5a90000300000004000000ffff0000'],
  ['a PDF document', '255044462d312e370a25e2e3cfd30a'],
  ['a script', '23212f62696e2f73680a'],
  ['an XML text', '3c3f786d6c2076657273696f6e3d22312e30223f3e0a'],
]

/** Files that a format has to leave to others. */
export function strangers(format: Format): Stranger[] {
  const size = 64 * 1024
  const own = new Set([format.name, ...(format.aliases ?? [])])
  const blank = (): Uint8Array => new Uint8Array(size)
  const found: Stranger[] = [
    { name: 'an empty file', bytes: new Uint8Array(0) },
    { name: 'a file of one zero byte', bytes: new Uint8Array(1) },
    { name: 'a file of zeros', bytes: blank() },
    { name: 'a file of 0xff', bytes: blank().fill(0xff) },
    { name: 'a text', bytes: blank().map((_, i) => (i % 70 === 69 ? 10 : 97 + (i % 26))) },
    { name: 'a raw disk with partitions', bytes: place(blank(), 510, '55aa') },
    { name: 'a raw disk with a GPT', bytes: place(place(blank(), 510, '55aa'), 512, '4546492050415254') },
    { name: 'an ext4 file system', bytes: place(blank(), 1080, '53ef') },
    { name: 'a CD image', bytes: place(blank(), 32769, '4344303031') },
    { name: 'a tar archive', bytes: place(blank(), 257, '7573746172003030') },
  ]
  for (const [name, hex] of heads) found.push({ name, bytes: place(blank(), 0, hex) })
  for (const { name, magic = [] } of officialFormats) {
    if (own.has(name)) continue
    for (const { offset, hex } of magic) {
      const at = offset < 0 ? size + offset : offset
      found.push({ name: `an image of format ${name}`, bytes: place(blank(), at, hex) })
    }
  }
  return found
}

function place(bytes: Uint8Array, offset: number, hex: string): Uint8Array {
  for (let i = 0; i < hex.length / 2; i++)
    bytes[offset + i] = Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16)
  return bytes
}
