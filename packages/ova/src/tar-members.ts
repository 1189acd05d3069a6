import type { IoOptions, Storage } from '@img/core'
import { corrupt, ovaError } from './errors.js'
import { checkFileName } from './file-name.js'
import { MAX_EXTENDED_HEADER_BYTES, MAX_MEMBERS } from './limits.js'
import { paddedSize, parseTarHeader, RECORD, type TarHeader } from './tar-header.js'

/** A file in an archive. */
export interface TarMember {
  readonly name: string
  /** First byte of its data in the archive. */
  readonly offset: number
  readonly size: number
}

/** What the last extended headers say of the member that follows. */
interface Extension {
  path?: string | undefined
  size?: number | undefined
}

/**
 * Finds the files of an archive, by its headers alone; no data is read. Directories are passed over.
 * POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU long names.
 * @throws {ImageError} IMG_CORRUPT; IMG_TRUNCATED; IMG_UNSUPPORTED for links, devices, sparse files and whatever else is no
 * plain file; IMG_REFERENCE_DENIED for a name that leads out of the package.
 */
export async function readTarMembers(storage: Storage, options: IoOptions): Promise<readonly TarMember[]> {
  const { label, size: total } = storage
  const members = new Map<string, TarMember>()
  let extension: Extension = {}
  let headers = 0
  for (let offset = 0; offset < total; ) {
    const header = await headerAt(storage, offset, options)
    if (header === 'end') break
    if (++headers > MAX_MEMBERS)
      throw corrupt(`the archive has more than ${MAX_MEMBERS} members`, label, offset)
    const data = offset + RECORD
    const isExtension = 'xgLK'.includes(header.type)
    const size = isExtension ? header.size : (extension.size ?? header.size)
    if (data + size > total) {
      throw ovaError('IMG_TRUNCATED', `the archive ends inside ${JSON.stringify(header.name)}`, label, total)
    }
    if (isExtension) {
      extension = await extended(storage, header, data, extension, options)
    } else {
      const member = memberOf({ ...header, size, name: extension.path ?? header.name }, data, label)
      extension = {}
      if (member !== undefined) {
        if (members.has(member.name)) {
          throw corrupt(`the archive has two members ${JSON.stringify(member.name)}`, label, offset)
        }
        members.set(member.name, member)
      }
    }
    offset = data + paddedSize(size)
  }
  return [...members.values()]
}

async function headerAt(
  storage: Storage,
  offset: number,
  options: IoOptions,
): Promise<ReturnType<typeof parseTarHeader>> {
  const { label, size } = storage
  if (offset + RECORD > size)
    throw ovaError('IMG_TRUNCATED', 'the archive ends inside a header', label, offset)
  const record = new Uint8Array(RECORD)
  await storage.read(offset, record, options)
  return parseTarHeader(record, label, offset)
}

const kinds: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a device',
  '4': 'a device',
  '6': 'a pipe',
  S: 'a sparse file',
  M: 'continued from another archive',
}

function memberOf({ name, type, size }: TarHeader, offset: number, source: string): TarMember | undefined {
  if (type === '5') {
    if (!/^\.?\/?$/.test(name)) checkFileName(name, source)
    if (size > 0) throw corrupt(`the directory ${JSON.stringify(name)} holds data`, source, offset)
    return undefined
  }
  if (type !== '0' && type !== '7') {
    throw ovaError(
      'IMG_UNSUPPORTED',
      `the member ${JSON.stringify(name)} is ${kinds[type] ?? `of type ${JSON.stringify(type)}`}, not a plain file`,
      source,
      offset,
    )
  }
  return { name: checkFileName(name, source), offset, size }
}

/** Reads an extended header: pax records, or a name too long for the header itself. */
async function extended(
  storage: Storage,
  { type, size }: TarHeader,
  offset: number,
  before: Extension,
  options: IoOptions,
): Promise<Extension> {
  const { label } = storage
  if (type === 'K') {
    throw ovaError('IMG_UNSUPPORTED', 'the archive holds a link', label, offset)
  }
  if (size > MAX_EXTENDED_HEADER_BYTES) {
    throw corrupt(`an extended header of ${size} bytes`, label, offset)
  }
  const bytes = new Uint8Array(size)
  if (size > 0) await storage.read(offset, bytes, options)
  if (type === 'L') {
    const end = bytes.indexOf(0)
    return { ...before, path: new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)) }
  }
  const records = paxRecords(bytes, label, offset)
  for (const key of records.keys()) {
    if (key.startsWith('GNU.sparse.'))
      throw ovaError('IMG_UNSUPPORTED', 'the archive holds a sparse file', label, offset)
    if (key === 'linkpath') throw ovaError('IMG_UNSUPPORTED', 'the archive holds a link', label, offset)
  }
  const path = records.get('path')
  const length = records.get('size')
  if (type === 'g') {
    if (path !== undefined || length !== undefined)
      throw corrupt('a global header gives all members one name or size', label, offset)
    return before
  }
  if (length === undefined) return { ...before, path: path ?? before.path }
  const value = /^\d+$/.test(length) ? Number(length) : Number.NaN
  if (!Number.isSafeInteger(value)) throw corrupt('an extended header holds no valid size', label, offset)
  return { path: path ?? before.path, size: value }
}

/** `length key=value\n`, the length in bytes and its own digits included. POSIX.1-2001, pax, "Extended Header". */
function paxRecords(bytes: Uint8Array, source: string, offset: number): Map<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] === 0) break
    const blank = bytes.indexOf(0x20, at)
    const digits = blank < 0 ? '' : new TextDecoder().decode(bytes.subarray(at, blank))
    const length = /^\d{1,6}$/.test(digits) ? Number(digits) : 0
    const end = at + length
    if (length <= digits.length + 1 || end > bytes.length || bytes[end - 1] !== 0x0a) {
      throw corrupt('an extended header cannot be understood', source, offset + at)
    }
    const record = new TextDecoder().decode(bytes.subarray(blank + 1, end - 1))
    const equals = record.indexOf('=')
    if (equals < 1) throw corrupt('an extended header cannot be understood', source, offset + at)
    records.set(record.slice(0, equals), record.slice(equals + 1))
    at = end
  }
  return records
}
