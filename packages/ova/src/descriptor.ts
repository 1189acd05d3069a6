import { corrupt, ovaError } from './errors.js'
import { MAX_ENTRIES } from './limits.js'
import { unitBytes } from './units.js'
import { childrenOf, parseXml, type XmlElement } from './xml.js'

/** A file that a package refers to. DSP0243, 7.1 "File references" (References). */
export interface OvfFile {
  readonly id: string
  /** As it stands in the descriptor. */
  readonly href: string
  /** Bytes as they are stored, where told. */
  readonly size: number | undefined
  /** `identity`: stored as it is. */
  readonly compression: string
  /** Bytes of each part but the last, where the file is stored in parts. */
  readonly chunkSize: number | undefined
}

/** A disk of a package. DSP0243, 9.1 "DiskSection". */
export interface OvfDisk {
  /** From 1, in document order. */
  readonly number: number
  readonly id: string
  /** What holds it; absent for a disk that is empty. */
  readonly file: OvfFile | undefined
  /** Bytes; undefined where only a property that is not set tells. */
  readonly capacity: number | undefined
  /** Bytes in use, where told. */
  readonly populatedSize: number | undefined
  /** URI of the disk's format. */
  readonly format: string | undefined
  /** The disk that it is a delta over. */
  readonly parent: string | undefined
}

/** What a descriptor says. */
export interface Descriptor {
  /** 1 or 2: what the envelope's namespace tells. */
  readonly version: 1 | 2
  readonly files: readonly OvfFile[]
  readonly disks: readonly OvfDisk[]
  readonly root: XmlElement
}

/**
 * Parses an OVF descriptor.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT for other XML, IMG_UNSUPPORTED for another version, IMG_CORRUPT.
 */
export function parseDescriptor(bytes: Uint8Array, source: string): Descriptor {
  const root = parseXml(bytes, source)
  if (root.name !== 'Envelope') throw ovaError('IMG_NOT_THIS_FORMAT', 'is no OVF descriptor', source)
  const version = /^http:\/\/schemas\.dmtf\.org\/ovf\/envelope\/([12])\/?$/.exec(root.uri)?.[1]
  if (version === undefined) {
    throw ovaError('IMG_UNSUPPORTED', `OVF of the version ${JSON.stringify(root.uri)}`, source)
  }
  const { uri } = root
  const files = childrenOf(root, 'References', uri)
    .flatMap((references) => childrenOf(references, 'File', uri))
    .map((element) => fileOf(element, source))
  const byId = new Map(files.map((file) => [file.id, file]))
  if (byId.size < files.length) throw corrupt('two files have one id', source)
  const properties = propertiesOf(root)
  const disks = childrenOf(root, 'DiskSection', uri)
    .flatMap((section) => childrenOf(section, 'Disk', uri))
    .map((element, index) => diskOf(element, index + 1, { byId, properties, source }))
  if (new Set(disks.map(({ id }) => id)).size < disks.length) throw corrupt('two disks have one id', source)
  if (files.length > MAX_ENTRIES || disks.length > MAX_ENTRIES)
    throw corrupt(`more than ${MAX_ENTRIES} files or disks`, source)
  return { version: version === '1' ? 1 : 2, files, disks, root }
}

function fileOf({ attributes }: XmlElement, source: string): OvfFile {
  const id = attributes.get('id')
  const href = attributes.get('href')
  if (id === undefined || href === undefined || href === '') {
    throw corrupt('a file reference without id or href', source)
  }
  const chunkSize = whole(attributes.get('chunkSize'), `chunk size of ${href}`, source)
  if (chunkSize === 0) throw corrupt(`the chunk size of ${href} is 0`, source)
  const compression = attributes.get('compression') ?? ''
  return {
    id,
    href,
    size: whole(attributes.get('size'), `size of ${href}`, source),
    compression: compression === '' ? 'identity' : compression.toLowerCase(),
    chunkSize,
  }
}

interface DiskContext {
  readonly byId: ReadonlyMap<string, OvfFile>
  readonly properties: ReadonlyMap<string, string>
  readonly source: string
}

function diskOf(element: XmlElement, number: number, context: DiskContext): OvfDisk {
  const { attributes } = element
  const { byId, source } = context
  const id = attributes.get('diskId')
  if (id === undefined || id === '') throw corrupt(`disk ${number} has no id`, source)
  const fileRef = attributes.get('fileRef')
  const file = fileRef === undefined || fileRef === '' ? undefined : byId.get(fileRef)
  if (fileRef !== undefined && fileRef !== '' && file === undefined) {
    throw corrupt(
      `disk ${id} is in the file ${JSON.stringify(fileRef)}, which is not among the references`,
      source,
    )
  }
  return {
    number,
    id,
    file,
    capacity: capacityOf(attributes, id, context),
    populatedSize: whole(attributes.get('populatedSize'), `populated size of disk ${id}`, source),
    format: attributes.get('format'),
    parent: attributes.get('parentRef') || undefined,
  }
}

/** Capacity in bytes: a number, or `${key}` for the value of a property, times the allocation units. */
function capacityOf(
  attributes: ReadonlyMap<string, string>,
  id: string,
  { properties, source }: DiskContext,
): number | undefined {
  const given = attributes.get('capacity')
  if (given === undefined) throw corrupt(`disk ${id} has no capacity`, source)
  const key = /^\s*\$\{(.*)\}\s*$/.exec(given)?.[1]
  const text = key === undefined ? given : properties.get(key)
  if (text === undefined || (key !== undefined && text.trim() === '')) return undefined
  const units = attributes.get('capacityAllocationUnits')
  const unit = units === undefined || units.trim() === '' ? 1 : unitBytes(units)
  if (unit === undefined) {
    throw ovaError(
      'IMG_UNSUPPORTED',
      `the capacity of disk ${id} is in units of ${JSON.stringify(units)}`,
      source,
    )
  }
  const bytes = (whole(text, `capacity of disk ${id}`, source) ?? 0) * unit
  if (!Number.isSafeInteger(bytes)) {
    throw ovaError('IMG_UNSUPPORTED_SIZE', `disk ${id} has ${text} times ${unit} bytes`, source)
  }
  return bytes
}

/** Values of the properties that say one. DSP0243, 9.5 "ProductSection"; keys of a section with a class come after it. */
function propertiesOf(root: XmlElement): Map<string, string> {
  const values = new Map<string, string>()
  const visit = (element: XmlElement): void => {
    if (element.name === 'ProductSection') {
      const group = [element.attributes.get('class'), element.attributes.get('instance')]
      for (const property of childrenOf(element, 'Property')) {
        const key = property.attributes.get('key')
        const value = property.attributes.get('value')
        if (key === undefined || value === undefined) continue
        const [name, instance] = group
        values.set(`${name ? `${name}.` : ''}${key}${instance ? `.${instance}` : ''}`, value)
      }
    }
    for (const child of element.children) visit(child)
  }
  visit(root)
  return values
}

function whole(text: string | undefined, what: string, source: string): number | undefined {
  if (text === undefined) return undefined
  const value = /^\s*\d+\s*$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(value)) return value
  throw corrupt(`the ${what} is ${JSON.stringify(text)}`, source)
}
