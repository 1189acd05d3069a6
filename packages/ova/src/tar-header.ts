import { divideUp } from '@img/core'
import { corrupt } from './errors.js'

/** Bytes of a record of an archive: headers are one, data is filled up to whole ones. POSIX.1-1988, ustar. */
export const RECORD = 512

/** One header of an archive. */
export interface TarHeader {
  readonly name: string
  /** Bytes of data that follow, filled up to whole records. */
  readonly size: number
  /** Type flag, one character; `0` for a file. */
  readonly type: string
}

/** What a header can tell by itself: nothing but zeros is the end of the archive. */
export type ParsedHeader = TarHeader | 'end'

/** The start of a header that has the magic of POSIX or GNU archives. Never throws. */
export function looksLikeTar(head: Uint8Array): boolean {
  return head.length >= RECORD && text(head, 257, 5) === 'ustar'
}

/** The name in a header, without checking anything. */
export function rawName(header: Uint8Array): string {
  return text(header, 0, 100)
}

/**
 * Reads a header. Sizes are octal digits, or base-256 as GNU writes those of 8 GiB and more.
 * @throws {ImageError} IMG_CORRUPT.
 */
export function parseTarHeader(record: Uint8Array, source: string, offset: number): ParsedHeader {
  if (record.every((byte) => byte === 0)) return 'end'
  const [unsigned, signed] = sums(record)
  const stored = number(record, 148, 8)
  if (stored === undefined || (stored !== unsigned && stored !== signed)) {
    throw corrupt('the checksum of a header of the archive is wrong', source, offset)
  }
  const size = number(record, 124, 12)
  if (size === undefined) throw corrupt('a header of the archive holds no valid size', source, offset)
  const magic = text(record, 257, 6)
  // GNU's own magic has no prefix: other things stand there.
  const prefix = magic === 'ustar' && record[263] === 0x30 ? text(record, 345, 155) : ''
  const name = text(record, 0, 100)
  const type = String.fromCharCode(record[156] as number)
  return { name: prefix === '' ? name : `${prefix}/${name}`, size, type: type === '\0' ? '0' : type }
}

/** A header as it stands in an archive; the same for the same name and size. */
export function serialiseTarHeader({ name, size, type }: TarHeader): Uint8Array {
  const record = new Uint8Array(RECORD)
  const bytes = new TextEncoder().encode(name)
  if (bytes.length > 100) throw new RangeError(`the name ${name} has more than 100 bytes`)
  record.set(bytes)
  put(record, 100, '0000644\0')
  put(record, 108, '0000000\0')
  put(record, 116, '0000000\0')
  putSize(record, size)
  put(record, 136, '00000000000\0')
  put(record, 148, '        ')
  put(record, 156, type)
  put(record, 257, 'ustar\u000000')
  const [sum] = sums(record)
  put(record, 148, `${sum.toString(8).padStart(6, '0')}\0 `)
  return record
}

/** Bytes that data of that size takes in an archive. */
export function paddedSize(size: number): number {
  return divideUp(size, RECORD) * RECORD
}

/** Eleven octal digits; from 8 GiB on the number itself, its first bit set. GNU tar manual, "Basic Tar Format". */
function putSize(record: Uint8Array, size: number): void {
  if (size < 8 ** 11) {
    put(record, 124, `${size.toString(8).padStart(11, '0')}\0`)
    return
  }
  let rest = size
  for (let at = 135; at > 124; at--) {
    record[at] = rest % 256
    rest = Math.floor(rest / 256)
  }
  record[124] = 0x80
}

function number(record: Uint8Array, at: number, length: number): number | undefined {
  const first = record[at] as number
  if (first === 0x80) {
    let value = 0
    for (const byte of record.subarray(at + 1, at + length)) value = value * 256 + byte
    return Number.isSafeInteger(value) ? value : undefined
  }
  const digits = text(record, at, length).trim()
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : undefined
}

/** Sums of the bytes of a header, the checksum itself counted as blanks: unsigned, and signed as some old tools took it. */
function sums(record: Uint8Array): readonly [unsigned: number, signed: number] {
  let unsigned = 0
  let signed = 0
  for (const [at, stored] of record.entries()) {
    const byte = at >= 148 && at < 156 ? 0x20 : stored
    unsigned += byte
    signed += byte < 128 ? byte : byte - 256
  }
  return [unsigned, signed]
}

function text(record: Uint8Array, at: number, length: number): string {
  const field = record.subarray(at, at + length)
  const end = field.indexOf(0)
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end))
}

function put(record: Uint8Array, at: number, characters: string): void {
  for (let i = 0; i < characters.length; i++) record[at + i] = characters.charCodeAt(i)
}
