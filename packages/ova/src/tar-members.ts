import type { ImageError, IoOptions, Storage } from '@img/core'
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

/** The bytes of an archive, asked for front to back. */
export interface TarSource {
  readonly label: string
  /** The bytes from there on, fewer where the archive ends before. */
  read(offset: number, length: number): Promise<Uint8Array>
  /** Passes over everything before `offset`; false where the archive ends before that. */
  reaches(offset: number): Promise<boolean>
}

/**
 * Goes through the files of an archive, by its headers alone: no data is read but by whoever takes a member. Directories are
 * passed over. POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU long names.
 * @throws {ImageError} IMG_CORRUPT; IMG_TRUNCATED; IMG_UNSUPPORTED for links, devices, sparse files and whatever else is no
 * plain file; IMG_REFERENCE_DENIED for a name that leads out of the package.
 */
export async function* walkTar(source: TarSource): AsyncGenerator<TarMember> {
  const { label } = source
  const names = new Set<string>()
  let extension: Extension = {}
  let headers = 0
  for (let offset = 0; ; ) {
    const record = await source.read(offset, RECORD)
    if (record.length === 0) return
    if (record.length < RECORD)
      throw ovaError('IMG_TRUNCATED', 'the archive ends inside a header', label, offset)
    const header = parseTarHeader(record, label, offset)
    if (header === 'end') return
    if (++headers > MAX_MEMBERS)
      throw corrupt(`the archive has more than ${MAX_MEMBERS} members`, label, offset)
    const data = offset + RECORD
    const isExtension = 'xgLK'.includes(header.type)
    const size = isExtension ? header.size : (extension.size ?? header.size)
    if (isExtension) {
      extension = await extended(source, header, data, extension)
    } else {
      const member = memberOf({ ...header, size, name: extension.path ?? header.name }, data, label)
      extension = {}
      if (member !== undefined) {
        if (names.has(member.name)) {
          throw corrupt(`the archive has two members ${JSON.stringify(member.name)}`, label, offset)
        }
        names.add(member.name)
        yield member
      }
    }
    if (!(await source.reaches(data + size))) throw endsInside(header.name, label, data + size)
    offset = data + paddedSize(size)
  }
}

/** The archive ends before it should. */
export function endsInside(name: string, source: string, offset: number): ImageError {
  return ovaError('IMG_TRUNCATED', `the archive ends inside ${JSON.stringify(name)}`, source, offset)
}

/** Finds the files of an archive. @throws {ImageError} as {@link walkTar}. */
export async function readTarMembers(storage: Storage, options: IoOptions): Promise<readonly TarMember[]> {
  const { label, size } = storage
  const members: TarMember[] = []
  const source: TarSource = {
    label,
    async read(offset, length) {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, size - offset)))
      if (bytes.length > 0) await storage.read(offset, bytes, options)
      return bytes
    },
    reaches: async (offset) => offset <= size,
  }
  for await (const member of walkTar(source)) members.push(member)
  return members
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
  source: TarSource,
  { name, type, size }: TarHeader,
  offset: number,
  before: Extension,
): Promise<Extension> {
  const { label } = source
  if (type === 'K') {
    throw ovaError('IMG_UNSUPPORTED', 'the archive holds a link', label, offset)
  }
  if (size > MAX_EXTENDED_HEADER_BYTES) {
    throw corrupt(`an extended header of ${size} bytes`, label, offset)
  }
  const bytes = await source.read(offset, size)
  if (bytes.length < size) throw endsInside(name, label, offset + size)
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
