import type { OpenContext, Reference, Storage } from '@img/core'
import type { ExtentLine } from './descriptor.js'
import { corrupt, unsupported, vmdkError } from './errors.js'
import { type Extent, FlatExtent, NoAccessExtent, ZeroExtent } from './extent.js'
import { SECTOR } from './limits.js'
import { type OpenedSparse, openCowd, openSparse, type SparseContext } from './open-sparse.js'
import { SeSparseExtent } from './sesparse-extent.js'

/** One extent of a disk with what stands for it in the descriptor. */
export interface DiskExtent {
  /** First byte of the disk. */
  readonly offset: number
  /** Bytes of the disk. */
  readonly size: number
  readonly extent: Extent
  readonly line: ExtentLine
  /** Label of the file; absent for ZERO. */
  readonly label?: string | undefined
  /** Its header and directories; absent where it is no hosted sparse extent. */
  readonly sparse?: OpenedSparse | undefined
}

/** Extents opened, and the files that they opened. */
export interface OpenedExtents {
  readonly extents: readonly DiskExtent[]
  readonly files: readonly Storage[]
}

/** The name of a file beside another, for messages and `info`. */
export function nameBeside(label: string, file: string): string {
  if (/^([/\\]|[a-z]:|[a-z][a-z0-9+.-]+:)/i.test(file)) return file
  return `${/^.*[/\\]/.exec(label)?.[0] ?? ''}${file}`
}

/**
 * Opens the extents that a descriptor names, through the context. Each file is opened once.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
 */
export async function openExtents(
  lines: readonly ExtentLine[],
  source: string,
  context: OpenContext,
): Promise<OpenedExtents> {
  const files = new Map<string, Storage>()
  try {
    const extents: DiskExtent[] = []
    let offset = 0
    for (const line of lines) {
      const opened = await openExtent(line, source, context, files)
      extents.push({ offset, size: line.sectors * SECTOR, line, ...opened })
      offset += line.sectors * SECTOR
    }
    return { extents, files: [...files.values()] }
  } catch (error) {
    for (const file of files.values()) await file.close().catch(() => undefined)
    throw error
  }
}

async function openExtent(
  line: ExtentLine,
  source: string,
  context: OpenContext,
  files: Map<string, Storage>,
): Promise<Pick<DiskExtent, 'extent' | 'label' | 'sparse'>> {
  const { type, file, sectors, access } = line
  if (type === 'ZERO') return { extent: new ZeroExtent(sectors) }
  if (!['FLAT', 'VMFS', 'SPARSE', 'VMFSSPARSE', 'SESPARSE'].includes(type)) {
    throw unsupported(`extents of type ${type}`, source)
  }
  if (file === undefined || file === '') throw corrupt(`an extent of type ${type} names no file`, source)
  const label = nameBeside(source, file)
  if (access === 'NOACCESS') return { extent: new NoAccessExtent(sectors, source), label }
  if (context.inspect) return { extent: new ClosedExtent(line, source), label }
  let storage = files.get(file)
  if (storage === undefined) {
    const reference: Reference = { kind: 'extent', name: file }
    storage = await context.openReference(reference)
    files.set(file, storage)
  }
  const opened = await openStorage(line, storage, sparseContext(context))
  if (opened.extent.size < sectors * SECTOR) {
    throw corrupt(`is smaller than the ${sectors} sectors that the descriptor tells of`, storage.label)
  }
  return { ...opened, label }
}

async function openStorage(
  line: ExtentLine,
  storage: Storage,
  context: SparseContext,
): Promise<Pick<DiskExtent, 'extent' | 'sparse'>> {
  switch (line.type) {
    case 'SPARSE': {
      const sparse = await openSparse(storage, context)
      return { extent: sparse.extent, sparse }
    }
    case 'VMFSSPARSE':
      return { extent: await openCowd(storage, context) }
    case 'SESPARSE':
      return { extent: await SeSparseExtent.open(storage, context) }
    default: {
      const extent = new FlatExtent(storage, line.sectors, line.startSector)
      if (extent.start + extent.size > storage.size && !context.tolerant) {
        throw vmdkError(
          'IMG_TRUNCATED',
          `ends at ${storage.size}, before the extent of ${extent.size} bytes that it holds does`,
          storage.label,
          storage.size,
        )
      }
      return { extent }
    }
  }
}

/** How sparse extents are opened within an image. */
export function sparseContext(context: OpenContext): SparseContext {
  const { signal, repair, salvage, inspect } = context
  return {
    signal,
    tolerant: repair === true || salvage === true || inspect,
    warn: (message) => context.warn(message),
  }
}

/** An extent whose file was not opened. */
class ClosedExtent implements Extent {
  readonly size: number
  readonly #name: string
  readonly #source: string

  constructor({ sectors, file }: ExtentLine, source: string) {
    this.size = sectors * SECTOR
    this.#name = file ?? ''
    this.#source = source
  }

  lookup(): never {
    throw notOpened(this.#name, this.#source)
  }
}

/** Why nothing can be read of an image that was opened for information. */
export function notOpened(name: string, source: string): Error {
  return vmdkError('IMG_REFERENCE_DENIED', `extent ${JSON.stringify(name)} was not opened`, source)
}
