import {
  type Driver,
  type ImageError,
  type IoOptions,
  type OpenContext,
  type Storage,
  viewOf,
} from '@img/core'
import { COWD_MAGIC } from './cowd-header.js'
import { Descriptor, isDescriptor } from './descriptor.js'
import { type ImageParts, VmdkDriver } from './driver.js'
import { corrupt, truncated, unsupported, vmdkError } from './errors.js'
import { ClosedExtent } from './extent.js'
import { readBytes } from './grain-tables.js'
import { MAX_DESCRIPTOR_BYTES, NO_PARENT, SECTOR } from './limits.js'
import { openCowd } from './open-cowd.js'
import { type DiskExtent, openExtents, sparseContext } from './open-extents.js'
import { type OpenedSparse, openSparse, readSparseHeader } from './open-sparse.js'
import { SESPARSE_MAGIC, SeSparseExtent } from './sesparse-extent.js'
import { SPARSE_MAGIC, type SparseHeader } from './sparse-header.js'

/** Types of disks, in lower case. Technote, "createType"; libvmdk, "The disk types". */
const createTypes = new Set(
  [
    ...['monolithicSparse', 'monolithicFlat', 'streamOptimized', 'custom', 'fullDevice', 'partitionedDevice'],
    ...['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', '2GbMaxExtentSparse', '2GbMaxExtentFlat'],
    ...['vmfs', 'vmfsThin', 'vmfsPreallocated', 'vmfsEagerZeroedThick', 'vmfsSparse', 'seSparse'],
  ].map((type) => type.toLowerCase()),
)

/** What kind of file the first bytes tell. */
export type FileKind = 'sparse' | 'cowd' | 'sesparse' | 'descriptor' | undefined

/** The kind of a file by its first bytes. Never throws. */
export function kindOf(head: Uint8Array): FileKind {
  if (head.length < 8) return undefined
  const view = viewOf(head)
  const magic = view.getUint32(0)
  if (magic === SPARSE_MAGIC) return 'sparse'
  if (magic === COWD_MAGIC) return 'cowd'
  if (view.getUint32(0, true) === SESPARSE_MAGIC && view.getUint32(4) === 0) return 'sesparse'
  return isDescriptor(head) ? 'descriptor' : undefined
}

/**
 * Opens an image: a descriptor with its extents, or an extent that holds its descriptor. References are opened only through
 * the context.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE,
 * IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING, IMG_READ_ONLY.
 */
export async function openVmdk(storage: Storage, context: OpenContext): Promise<Driver> {
  const parts = await openParts(storage, context)
  try {
    if (!context.writable && !context.repair) return new VmdkDriver(parts, context)
    // Loaded when needed: most runs only read.
    const { openWritable } = await import('./write-driver.js')
    return await openWritable(parts, context)
  } catch (error) {
    for (const file of parts.files) await file.close().catch(() => undefined)
    throw error
  }
}

async function openParts(storage: Storage, context: OpenContext): Promise<ImageParts> {
  const { label, size } = storage
  const head = await readBytes(storage, 0, Math.min(size, 4096), context)
  switch (kindOf(head)) {
    case 'sparse':
      return openSparseFile(storage, context)
    case 'descriptor':
      return openDescriptorFile(storage, await readDescriptorFile(storage, context), context)
    case 'cowd': {
      const sparse = await openCowd(storage, sparseContext(context))
      return alone(storage, 'vmfsSparse', 'VMFSSPARSE', sparse.extent, context, sparse)
    }
    case 'sesparse':
      return alone(storage, 'seSparse', 'SESPARSE', await SeSparseExtent.open(storage, context), context)
    default:
      throw vmdkError('IMG_NOT_THIS_FORMAT', 'is no VMDK', label)
  }
}

async function readDescriptorFile(storage: Storage, context: OpenContext): Promise<Descriptor> {
  const length = Math.min(storage.size, MAX_DESCRIPTOR_BYTES)
  const bytes = await readBytes(storage, 0, length, context)
  if (storage.size > length && bytes.indexOf(0) < 0) {
    throw corrupt(`the descriptor is longer than ${MAX_DESCRIPTOR_BYTES} bytes`, storage.label, length)
  }
  return Descriptor.parse(bytes, storage.label)
}

async function openDescriptorFile(
  storage: Storage,
  descriptor: Descriptor,
  context: OpenContext,
  place: ImageParts['descriptorPlace'] = { offset: 0, room: undefined },
): Promise<ImageParts> {
  const { label } = storage
  const createType = checkDescriptor(descriptor, label)
  if (createType === undefined) throw corrupt('the descriptor has no createType', label)
  const lines = descriptor.extents()
  if (lines.length === 0) throw corrupt('the descriptor names no extent', label)
  const { extents, files } = await openExtents(lines, label, context)
  const closed = extents.map(({ extent }) => extent).find((extent) => extent instanceof ClosedExtent)
  return {
    storage,
    descriptor,
    descriptorPlace: place,
    createType,
    extents,
    files,
    unreadable: (context.inspect ? closed?.error : undefined) ?? parentMissing(descriptor, label),
  }
}

async function openSparseFile(storage: Storage, context: OpenContext): Promise<ImageParts> {
  const { label } = storage
  const header = await readSparseHeader(storage, { signal: context.signal, salvage: context.salvage })
  const found = await embeddedDescriptor(storage, header, context)
  const createType = found && checkDescriptor(found.descriptor, label)
  const lines = found?.descriptor.extents() ?? []
  if (found && header.capacity === 0) {
    // Nothing but a descriptor, in the wrapping of an extent.
    const own = lines.every(({ sectors }) => sectors === 0)
    if (!own && /^(monolithicSparse|streamOptimized)$/i.test(createType ?? '')) {
      throw corrupt('the capacity is 0, and the descriptor tells another', label, 12)
    }
    if (!own) return openDescriptorFile(storage, found.descriptor, context, found.place)
  }
  if (lines.length > 1) throw unsupported('an extent whose own descriptor names several', label)
  if (found === undefined)
    context.warn(`${label}: one extent of a disk, opened without the disk's descriptor`, 'WARN_CHOSEN')
  const [line] = lines
  if (line && line.sectors !== header.capacity) {
    context.warn(
      `${label}: the descriptor tells of ${line.sectors} sectors, the header of ${header.capacity}`,
      'WARN_DAMAGED',
    )
  }
  const sparse = await openSparse(storage, sparseContext(context))
  const size = sparse.header.capacity * SECTOR
  const whole: DiskExtent = {
    offset: 0,
    size,
    extent: sparse.extent,
    line: line ?? { access: 'RW', sectors: sparse.header.capacity, type: 'SPARSE', startSector: 0 },
    label,
    sparse,
  }
  return {
    storage,
    descriptor: found?.descriptor,
    descriptorPlace: found?.place ?? { offset: 0, room: 0 },
    createType: createType ?? 'monolithicSparse',
    extents: [whole],
    files: [],
    unreadable: found && parentMissing(found.descriptor, label),
  }
}

async function embeddedDescriptor(
  storage: Storage,
  header: SparseHeader,
  context: OpenContext,
): Promise<{ readonly descriptor: Descriptor; readonly place: ImageParts['descriptorPlace'] } | undefined> {
  const { descriptorOffset, descriptorSectors } = header
  if (descriptorOffset === 0) return undefined
  const offset = descriptorOffset * SECTOR
  const room = descriptorSectors * SECTOR
  if (room === 0 || room > MAX_DESCRIPTOR_BYTES) {
    throw corrupt(`a descriptor of ${descriptorSectors} sectors`, storage.label, 36)
  }
  if (offset + room > storage.size) throw truncated('ends inside its descriptor', storage.label, offset)
  const descriptor = Descriptor.parse(await readBytes(storage, offset, room, context), storage.label)
  return { descriptor, place: { offset, room } }
}

/** Checks version, content ids and createType. Returns that. */
function checkDescriptor(descriptor: Descriptor, source: string): string | undefined {
  const version = descriptor.get('version') ?? '1'
  if (!/^[1-3]$/.test(version)) throw unsupported(`a descriptor of version ${version}`, source)
  descriptor.cid('CID')
  descriptor.cid('parentCID')
  const createType = descriptor.get('createType')
  if (createType !== undefined && !createTypes.has(createType.toLowerCase())) {
    throw unsupported(`disks of type ${JSON.stringify(createType)}`, source)
  }
  return createType
}

/** A delta that does not say over which file. */
function parentMissing(descriptor: Descriptor, source: string): ImageError | undefined {
  const parent = descriptor.cid('parentCID') ?? NO_PARENT
  const hint = descriptor.get('parentFileNameHint')
  if (parent === NO_PARENT || (hint !== undefined && hint !== '')) return undefined
  return vmdkError(
    'IMG_REFERENCE_MISSING',
    'the disk is a delta, and its descriptor does not name its parent',
    source,
    undefined,
    'name it with `img rebase -u -F vmdk -b PARENT`',
  )
}

function alone(
  storage: Storage,
  createType: string,
  type: string,
  extent: DiskExtent['extent'],
  context: OpenContext,
  sparse?: OpenedSparse,
): ImageParts {
  context.warn(`${storage.label}: one extent of a disk, opened without the disk's descriptor`, 'WARN_CHOSEN')
  const line = { access: 'RW', sectors: extent.size / SECTOR, type, startSector: 0 } as const
  return {
    storage,
    descriptor: undefined,
    descriptorPlace: { offset: 0, room: 0 },
    createType,
    extents: [{ offset: 0, size: extent.size, extent, line, label: storage.label, sparse }],
    files: [],
  }
}

/**
 * The content id of a disk, from its descriptor alone: nothing else is opened.
 * @throws {ImageError} as {@link openVmdk}.
 */
export async function readCid(storage: Storage, options: IoOptions): Promise<number | undefined> {
  const refuse = (): never => {
    throw unsupported('only its descriptor was to be read', storage.label)
  }
  const context: OpenContext = {
    signal: options.signal,
    options: {},
    writable: false,
    inspect: true,
    openReference: async () => refuse(),
    secret: async () => refuse(),
    warn: () => undefined,
  }
  return (await openParts(storage, context)).descriptor?.cid('CID')
}
