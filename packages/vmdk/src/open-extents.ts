import { ImageError, type OpenContext, type Storage } from '@img/core'
import type { ExtentLine } from './descriptor.js'
import { corrupt, unsupported, vmdkError } from './errors.js'
import { ClosedExtent, type Extent, FlatExtent, NoAccessExtent, ZeroExtent } from './extent.js'
import { SECTOR } from './limits.js'
import { openCowd } from './open-cowd.js'
import { type OpenedSparse, openSparse, type SparseContext } from './open-sparse.js'
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
  /** Its header and directories; absent where it has none, or those of seSparse. */
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
  if (!isKnown(type)) throw unsupported(`extents of type ${type}`, source)
  if (file === undefined || file === '') throw corrupt(`an extent of type ${type} names no file`, source)
  const label = nameBeside(source, file)
  if (access === 'NOACCESS') return { extent: new NoAccessExtent(sectors, source), label }
  // For information, a header has something to tell; plain bytes have not.
  if (context.inspect && isFlat(type)) {
    return { extent: new ClosedExtent(sectors, notOpened(file, source)), label }
  }
  const tolerated = sparseContext(context)
  try {
    const opened = await openStorage(line, await openFile(file, context, files), tolerated)
    const { size } = opened.extent
    const grain = (opened.sparse?.header.grainSectors ?? 8) * SECTOR
    // Some writers round an extent up to whole grains. QEMU shows the whole of one that is larger.
    if (size >= sectors * SECTOR + grain) {
      context.warn(
        `${label}: holds ${size / SECTOR} sectors, of which the descriptor makes ${sectors} part of the disk`,
        'WARN_NOT_PART',
      )
    }
    if (size >= sectors * SECTOR) return { ...opened, label }
    throw corrupt(`is smaller than the ${sectors} sectors that the descriptor tells of`, label)
  } catch (error) {
    if (!tolerated.tolerant || !ImageError.is(error)) throw error
    return { extent: new ClosedExtent(sectors, error), label }
  }
}

async function openFile(file: string, context: OpenContext, files: Map<string, Storage>): Promise<Storage> {
  const known = files.get(file)
  if (known !== undefined) return known
  const storage = await context.openReference({ kind: 'extent', name: file })
  files.set(file, storage)
  return storage
}

/** Types of extents that stand in their files as they are. Technote, "The Extent Description". */
function isFlat(type: string): boolean {
  return type === 'FLAT' || type === 'VMFS'
}

function isKnown(type: string): boolean {
  return isFlat(type) || type === 'SPARSE' || type === 'VMFSSPARSE' || type === 'SESPARSE'
}

async function openStorage(
  line: ExtentLine,
  storage: Storage,
  context: SparseContext,
): Promise<Pick<DiskExtent, 'extent' | 'sparse'>> {
  switch (line.type) {
    case 'SPARSE':
    case 'VMFSSPARSE': {
      const sparse = await (line.type === 'SPARSE' ? openSparse : openCowd)(storage, context)
      return { extent: sparse.extent, sparse }
    }
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
    salvage,
    warn: (message, code) => context.warn(message, code),
  }
}

/** Why nothing can be read of an image that was opened for information. */
function notOpened(name: string, source: string): ImageError {
  return vmdkError('IMG_REFERENCE_DENIED', `extent ${JSON.stringify(name)} was not opened`, source)
}
