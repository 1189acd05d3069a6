import { type AddedReference, ImageError, type OpenContext, type ResizeOptions } from '@img/core'
import { unsupported, vmdkError } from './errors.js'
import { FlatExtent } from './extent.js'
import { MAX_SPLIT_EXTENTS, SECTOR } from './limits.js'
import { type DiskExtent, nameBeside, sparseContext } from './open-extents.js'
import { openSparse } from './open-sparse.js'
import { SparseWriter } from './sparse-writer.js'
import { WritableSparse } from './write-sparse.js'

/** True for disks of which each extent has 2 GiB at most. Technote, "createType". */
export function isSplit(createType: string): boolean {
  return /^(twoGb|2Gb)/i.test(createType)
}

/** Extents that were made, and how they are taken away where what follows fails. */
export interface AddedExtents {
  readonly extents: readonly DiskExtent[]
  readonly files: readonly AddedReference[]
}

/**
 * Makes more extents like the last one, in files named on from it. They are safe when this returns, and nothing refers to them.
 * @param sectors how many in all
 * @param most sectors of each at most
 * @throws {ImageError} IMG_REFERENCE_DENIED, IMG_EXISTS, IMG_UNSUPPORTED, IMG_NO_SPACE.
 */
export async function addExtents(
  last: DiskExtent,
  image: { readonly label: string; readonly count: number },
  sectors: number,
  most: number,
  context: OpenContext,
  options: ResizeOptions,
): Promise<AddedExtents> {
  const extents: DiskExtent[] = []
  const files: AddedReference[] = []
  if (image.count + sectors / most > MAX_SPLIT_EXTENTS) {
    throw vmdkError('IMG_UNSUPPORTED_SIZE', 'a disk cannot have so many extents', image.label)
  }
  let offset = last.offset + last.size
  try {
    for (let left = sectors; left > 0; ) {
      const count = Math.min(left, most)
      const file = nextName(last, image.count + extents.length + 1, image.label)
      const added = await makeFile(file, image.label, context)
      files.push(added)
      const line = { ...last.line, sectors: count, file, startSector: 0 }
      const extent = await fill(added, last, count, context, options)
      const label = nameBeside(image.label, file)
      extents.push({ offset, size: count * SECTOR, line, label, ...extent })
      offset += count * SECTOR
      left -= count
    }
  } catch (error) {
    await removeAll(files)
    throw error
  }
  return { extents, files }
}

/** Takes files away again. */
export async function removeAll(files: readonly AddedReference[]): Promise<void> {
  for (const file of files) await file.remove().catch(() => undefined)
}

async function makeFile(name: string, source: string, context: OpenContext): Promise<AddedReference> {
  if (context.addReference === undefined) {
    throw new ImageError(
      'IMG_REFERENCE_DENIED',
      `${source}: the disk needs one more extent, ${JSON.stringify(name)}, and making files was not allowed`,
      { format: 'vmdk', source },
    )
  }
  return context.addReference({ kind: 'extent', name })
}

async function fill(
  { storage }: AddedReference,
  { extent: model }: DiskExtent,
  capacity: number,
  context: OpenContext,
  options: ResizeOptions,
): Promise<Pick<DiskExtent, 'extent' | 'sparse'>> {
  if (model instanceof WritableSparse) {
    const { grainSectors, zeroedGrains } = model.shape
    const spec = { capacity, grainSectors, zeroedGrain: zeroedGrains, embedded: false, backing: false }
    await new SparseWriter(storage, spec).finish(undefined, options)
    await storage.flush(options)
    const sparse = await openSparse(storage, sparseContext(context))
    return { extent: new WritableSparse(sparse, context), sparse }
  }
  const { preallocation = 'off' } = options
  await storage.truncate(capacity * SECTOR, options)
  if (preallocation === 'falloc' || preallocation === 'full') {
    if (storage.preallocate === undefined) throw unsupported('room cannot be reserved here', storage.label)
    await storage.preallocate(0, capacity * SECTOR, preallocation, options)
  }
  await storage.flush(options)
  return { extent: new FlatExtent(storage, capacity, 0) }
}

/** `disk-s001.vmdk` is followed by `disk-s002.vmdk`, as VMware and QEMU name them. */
function nextName({ line, extent }: DiskExtent, number: number, source: string): string {
  const digits = String(number).padStart(3, '0')
  const match = /^(.*-[sf])\d+(\.[^./\\]*)?$/i.exec(line.file ?? '')
  if (match) return `${match[1]}${digits}${match[2] ?? ''}`
  const name = /[^/\\]*$/.exec(source)?.[0] ?? ''
  const dot = name.lastIndexOf('.')
  const [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, '']
  return `${stem}-${extent instanceof FlatExtent ? 'f' : 's'}${digits}${end}`
}
