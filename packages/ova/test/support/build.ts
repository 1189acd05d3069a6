import { createHash } from 'node:crypto'
import { paddedSize, serialiseTarHeader } from '../../src/tar-header.js'

/** A file of a package, or a member of any other type. */
export interface File {
  readonly name: string
  readonly bytes: Uint8Array
  readonly type?: string
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/** An archive of these members. */
export function tar(files: readonly File[], end = 1024): Uint8Array {
  const size = files.reduce((sum, { bytes }) => sum + 512 + paddedSize(bytes.length), end)
  const whole = new Uint8Array(size)
  let at = 0
  for (const { name, bytes, type = '0' } of files) {
    whole.set(serialiseTarHeader({ name, size: bytes.length, type }), at)
    whole.set(bytes, at + 512)
    at += 512 + paddedSize(bytes.length)
  }
  return whole
}

/** One record of an extended header. */
export function pax(records: Readonly<Record<string, string>>): Uint8Array {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = utf8(` ${key}=${value}\n`).length
    let length = rest + 1
    while (String(length).length + rest !== length) length++
    return `${length} ${key}=${value}\n`
  })
  return utf8(lines.join(''))
}

export function sha(bytes: Uint8Array, algorithm = 'SHA256'): string {
  return createHash(algorithm.toLowerCase()).update(bytes).digest('hex')
}

/** A manifest of files in the usual spelling. */
export function manifest(files: readonly File[], algorithm = 'SHA256'): File {
  const lines = files.map(({ name, bytes }) => `${algorithm}(${name})= ${sha(bytes, algorithm)}\n`)
  return { name: 'vm.mf', bytes: utf8(lines.join('')) }
}

export const rawUri = 'http://en.wikipedia.org/wiki/Byte'

/** A descriptor with these references and disks. `head` stands before the envelope, `tail` at its end. */
export function descriptor(
  references: string,
  disks: string,
  { head = '', tail = '', space = 'http://schemas.dmtf.org/ovf/envelope/1' } = {},
): File {
  const xml =
    `<?xml version="1.0"?>${head}<Envelope xmlns="${space}" xmlns:ovf="${space}">` +
    `<References>${references}</References><DiskSection><Info/>${disks}</DiskSection>${tail}` +
    '<VirtualSystem ovf:id="vm"><Info/></VirtualSystem></Envelope>'
  return { name: 'vm.ovf', bytes: utf8(xml) }
}

/** Files and disks for a descriptor: raw disks that stand in files of those names. */
export function rawDisks(files: readonly File[]): File {
  return descriptor(
    files.map(({ name }, i) => `<File ovf:id="f${i}" ovf:href="${name}"/>`).join(''),
    files
      .map(
        ({ bytes }, i) =>
          `<Disk ovf:diskId="d${i}" ovf:fileRef="f${i}" ovf:capacity="${bytes.length}" ovf:format="${rawUri}"/>`,
      )
      .join(''),
  )
}

/** Bytes that are not zero, and differ from each other. */
export function noise(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => ((at * 7 + Math.floor(at / 251) * 13 + seed) % 255) + 1)
}
