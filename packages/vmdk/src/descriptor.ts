import { corrupt, unsupported } from './errors.js'
import { MAX_EXTENTS, MAX_SECTORS } from './limits.js'
import { bytesOf, decodeText, encodeText, latin1 } from './text-encoding.js'

/** How an extent may be used. VMware Virtual Disk Format 5.0, "The Extent Description". */
export type Access = 'RW' | 'RDONLY' | 'NOACCESS'

/** One line of the extent description. */
export interface ExtentLine {
  readonly access: Access
  /** Sectors of 512 bytes. */
  readonly sectors: number
  /** FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, SESPARSE, and others that are not supported; upper case. */
  readonly type: string
  /** The file as it is named, decoded; absent for ZERO. */
  readonly file?: string | undefined
  /** First sector in that file. */
  readonly startSector: number
}

const extentPattern =
  /^(RW|RDONLY|NOACCESS)[ \t]+(\S+)[ \t]+([A-Za-z]+)(?:[ \t]+"([^"]*)"(?:[ \t]+(\d+))?(?:[ \t]+.*)?)?[ \t]*$/i
const entryPattern = /^[ \t]*([^#=\s][^=]*?)[ \t]*=[ \t]*(.*?)[ \t]*$/

/**
 * The descriptor of a disk: lines of text, every one kept as it stands, whatever it means and however it ends. Text is held
 * as one character for each byte; names are decoded by the encoding that the descriptor names, UTF-8 without one.
 * Specification: VMware Virtual Disk Format 5.0, "The Descriptor File"; libvmdk, "The descriptor file".
 */
export class Descriptor {
  readonly #lines: string[]
  readonly #source: string

  private constructor(lines: string[], source: string) {
    this.#lines = lines
    this.#source = source
  }

  /** Takes the text up to the first NUL: the room of a descriptor inside an extent is filled with them. */
  static parse(bytes: Uint8Array, source: string): Descriptor {
    const nul = bytes.indexOf(0)
    const text = latin1(nul < 0 ? bytes : bytes.subarray(0, nul))
    // Each line with what ends it: LF, CRLF or CR.
    return new Descriptor(text.match(/[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$/g) ?? [], source)
  }

  /** The bytes as they are to be stored. */
  serialise(): Uint8Array {
    return bytesOf(this.#lines.join(''))
  }

  /** A copy, to be changed apart. */
  clone(): Descriptor {
    return new Descriptor([...this.#lines], this.#source)
  }

  /** The value of a key, decoded, without quotes; the first where it stands more than once. Keys know no case. */
  get(key: string): string | undefined {
    const at = this.#find(key)
    if (at < 0) return undefined
    return this.#decode(unquote(entryPattern.exec(bare(this.#lines[at] as string))?.[2] ?? ''))
  }

  /** All keys with their values, in order, but for those of the header. */
  entries(): readonly (readonly [string, string])[] {
    return this.#lines.flatMap((line) => {
      const match = extentPattern.test(bare(line).trim()) ? null : entryPattern.exec(bare(line))
      return match ? [[match[1] as string, this.#decode(unquote(match[2] as string))] as const] : []
    })
  }

  /** The content id in a key. @throws {ImageError} IMG_CORRUPT where it is no hexadecimal number of 32 bits. */
  cid(key: 'CID' | 'parentCID'): number | undefined {
    const text = this.get(key)
    if (text === undefined) return undefined
    if (!/^(0x)?[0-9a-f]{1,8}$/i.test(text)) throw corrupt(`${key} is ${JSON.stringify(text)}`, this.#source)
    return Number.parseInt(text.replace(/^0x/i, ''), 16)
  }

  /**
   * The extents in order.
   * @throws {ImageError} IMG_CORRUPT where a line cannot be understood: nothing is skipped, since that would move all after it.
   */
  extents(): readonly ExtentLine[] {
    const extents: ExtentLine[] = []
    let total = 0
    for (const line of this.#lines) {
      const text = bare(line).trim()
      if (!/^(RW|RDONLY|NOACCESS)\s/i.test(text)) continue
      const extent = this.#extent(text)
      total += extent.sectors
      if (extents.length >= MAX_EXTENTS || total > MAX_SECTORS) {
        throw corrupt('the extents are too many or too large', this.#source)
      }
      extents.push(extent)
    }
    return extents
  }

  #extent(text: string): ExtentLine {
    const match = extentPattern.exec(text)
    const sectors = match && /^\d+$/.test(match[2] as string) ? Number(match[2]) : Number.NaN
    if (!match || !(sectors <= MAX_SECTORS)) {
      throw corrupt(`extent ${JSON.stringify(text.slice(0, 200))} makes no sense`, this.#source)
    }
    const [, access, , type, file, start = '0'] = match
    const startSector = Number(start)
    if (!(startSector <= MAX_SECTORS)) throw corrupt(`an extent begins at sector ${start}`, this.#source)
    return {
      access: (access as string).toUpperCase() as Access,
      sectors,
      type: (type as string).toUpperCase(),
      file: file === undefined ? undefined : this.#decode(file),
      startSector,
    }
  }

  /** Sets the sectors of the extent with that index. */
  setExtentSectors(index: number, sectors: number): void {
    let seen = 0
    for (const [at, line] of this.#lines.entries()) {
      if (!extentPattern.test(bare(line).trim()) || seen++ !== index) continue
      this.#lines[at] = line.replace(/^([ \t]*\S+[ \t]+)\S+/, `$1${sectors}`)
      return
    }
    throw new RangeError(`no extent ${index}`)
  }

  /** Drops the extents from that index on. */
  dropExtents(from: number): void {
    let seen = 0
    const kept = this.#lines.filter((line) => !extentPattern.test(bare(line).trim()) || seen++ < from)
    this.#lines.splice(0, this.#lines.length, ...kept)
  }

  /** Adds an extent after the last one, which must be there. */
  addExtent({ access, sectors, type, file = '', startSector }: ExtentLine): void {
    let last = this.#lines.length - 1
    while (last > 0 && !extentPattern.test(bare(this.#lines[last] as string).trim())) last--
    const end = /[\r\n]+$/.exec(this.#lines[0] ?? '')?.[0] ?? '\n'
    if (bare(this.#lines[last] as string) === this.#lines[last]) this.#lines[last] += end
    const start = type === 'FLAT' || type === 'VMFS' ? ` ${startSector}` : ''
    const text = `${access} ${sectors} ${type} "${this.#encode(file)}"${start}${end}`
    this.#lines.splice(last + 1, 0, text)
  }

  /** Replaces the value of a key, or adds it: after `after` where given, at the end otherwise. Quotes stay as they were. */
  set(key: string, value: string, after?: string): void {
    const text = this.#encode(value)
    const at = this.#find(key)
    if (at >= 0) {
      const line = this.#lines[at] as string
      const match = /^([^=]*=[ \t]*)("?)([^\r\n]*)([\r\n]*)$/.exec(line)
      this.#lines[at] = `${match?.[1] ?? `${key}=`}${match?.[2]}${text}${match?.[2]}${match?.[4]}`
      return
    }
    const end = /[\r\n]+$/.exec(this.#lines[0] ?? '')?.[0] ?? '\n'
    const quoted = /^(CID|parentCID|version)$/.test(key) ? `${key}=${text}` : `${key}="${text}"`
    const place = after === undefined ? -1 : this.#find(after)
    this.#lines.splice(place < 0 ? this.#lines.length : place + 1, 0, `${quoted}${end}`)
  }

  /** Drops a key. */
  delete(key: string): void {
    const at = this.#find(key)
    if (at >= 0) this.#lines.splice(at, 1)
  }

  #find(key: string): number {
    const wanted = key.toLowerCase()
    return this.#lines.findIndex((line) => entryPattern.exec(bare(line))?.[1]?.toLowerCase() === wanted)
  }

  get #encoding(): string {
    const at = this.#find('encoding')
    return at < 0 ? 'utf-8' : unquote(entryPattern.exec(bare(this.#lines[at] as string))?.[2] ?? '').trim()
  }

  #decode(text: string): string {
    // Most names are ASCII, which all encodings have in common.
    if (/^[\x20-\x7e\t]*$/.test(text)) return text
    const bytes = bytesOf(text)
    return decodeText(bytes, this.#encoding) ?? decodeText(bytes, 'windows-1252') ?? text
  }

  #encode(text: string): string {
    if (/^[\x20-\x7e]*$/.test(text)) return text
    const bytes = /[^ -~\u0080-\uffff]|"/.test(text) ? undefined : encodeText(text, this.#encoding)
    if (bytes !== undefined) return latin1(bytes)
    throw unsupported(`${JSON.stringify(text)} cannot be written in this descriptor`, this.#source)
  }
}

function bare(line: string): string {
  return line.replace(/[\r\n]+$/, '')
}

function unquote(value: string): string {
  const match = /^"(.*)"$/.exec(value)
  return match ? (match[1] as string) : value
}

/** True where bytes from the start of a file are those of a descriptor. Never throws. */
export function isDescriptor(head: Uint8Array): boolean {
  const nul = head.indexOf(0)
  const lines = latin1(nul < 0 ? head : head.subarray(0, nul))
    .replace(/^\xef\xbb\xbf/, '')
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
  const meant = lines.filter((line) => line !== '' && !line.startsWith('#'))
  const titled = /^#\s*Disk\s+Descriptor\s*File$/i.test(lines.find((line) => line !== '') ?? '')
  const versioned = /^version\s*=\s*\d+$/i.test(meant[0] ?? '')
  return titled ? meant.length === 0 || meant.some((line) => line.includes('=')) : versioned
}
