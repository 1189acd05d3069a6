import type {
  CompactOptions,
  DiskImage,
  Driver,
  IoOptions,
  MaybePromise,
  OpenContext,
  Reference,
  ResizeOptions,
  Storage,
} from '@img/core'
import { backingOf, cidOf, hex, type ImageParts, VmdkDriver } from './driver.js'
import { unsupported, vmdkError } from './errors.js'
import { FlatExtent } from './extent.js'
import { NO_PARENT } from './limits.js'
import type { DiskExtent } from './open-extents.js'
import { DescriptorFile } from './write-descriptor.js'
import { WritableMap } from './write-map.js'
import { WritableSparse, writable } from './write-sparse.js'

/**
 * The driver of an image that is to be changed. Nothing is written before the first change.
 * @throws {ImageError} IMG_READ_ONLY, IMG_UNSUPPORTED, IMG_CORRUPT.
 */
export async function openWritable(parts: ImageParts, context: OpenContext): Promise<Driver> {
  if (!context.writable) return new VmdkDriver(parts, context)
  if (!context.repair) checkWritable(parts)
  const extents = parts.extents.map((part) => writableExtent(part, context))
  if (!context.repair) {
    checkAlignment(extents, parts.storage.label)
    checkApart({ ...parts, extents })
  }
  return new WritableDriver({ ...parts, extents }, context)
}

/**
 * What others know of the disk must not go wrong behind their backs: deltas by its content id, backups by the map of changes
 * that version 3 brought.
 */
function checkWritable({ descriptor, storage }: ImageParts): void {
  if (descriptor === undefined) {
    const hint = 'open the descriptor that names it'
    throw unsupported('one extent of a disk can only be read', storage.label, undefined, hint)
  }
  const tracked = descriptor.get('changeTrackPath') ?? ''
  if (tracked === '') return
  throw unsupported(
    `changes of the disk are tracked in ${JSON.stringify(tracked)}, which would miss some`,
    storage.label,
    undefined,
    'turn changed block tracking off, or convert it',
  )
}

function writableExtent(part: DiskExtent, context: OpenContext): DiskExtent {
  const { sparse, extent, line } = part
  if (line.access !== 'RW' || line.type === 'ZERO') return part
  // To be repaired only what can be: the rest is looked at.
  const fixed = sparse?.extent.compressed === true
  if (context.repair && (fixed || (!sparse && !(extent instanceof FlatExtent)))) return part
  if (sparse) return { ...part, extent: new WritableSparse(sparse, context) }
  if (extent instanceof FlatExtent) {
    writable(extent.storage)
    return part
  }
  if (context.inspect) return part
  throw unsupported(
    `extents of type ${line.type} can only be read`,
    extent.grainSize ? (part.label ?? '') : '',
  )
}

/** Grains are filled whole, in units of the disk: all have to be units of it. */
function checkAlignment(extents: readonly DiskExtent[], source: string): void {
  const sparse = extents.filter(({ extent }) => extent instanceof WritableSparse)
  const [size] = sparse.map(({ extent }) => extent.grainSize ?? 1)
  const last = extents.at(-1)
  for (const part of sparse) {
    const whole = part === last || part.size % (size as number) === 0
    if (part.extent.grainSize === size && part.offset % (size as number) === 0 && whole) continue
    throw unsupported('its extents do not begin and end with grains, so that it can only be read', source)
  }
}

/** What is written into one extent must not show in another, nor in the descriptor. */
function checkApart({ storage, extents, descriptorPlace }: ImageParts): void {
  type Range = { readonly start: number; readonly end: number }
  const whole: Range = { start: 0, end: Number.POSITIVE_INFINITY }
  const taken = new Map<unknown, Range[]>()
  const take = (file: Storage, range: Range): void => {
    const key = file.identity ?? file
    const others = taken.get(key) ?? []
    if (others.some(({ start, end }) => start < range.end && range.start < end)) {
      throw unsupported(`parts of it overlap in ${file.label}, so that it can only be read`, storage.label)
    }
    taken.set(key, [...others, range])
  }
  if (descriptorPlace.room === undefined) take(storage, whole)
  for (const { extent } of extents) {
    if (extent instanceof WritableSparse) take(extent.storage, whole)
    else if (extent instanceof FlatExtent)
      take(extent.storage, { start: extent.start, end: extent.start + extent.size })
  }
}

/** An image opened for writing. */
export class WritableDriver extends VmdkDriver {
  declare readonly map: WritableMap
  readonly #descriptor: DescriptorFile
  #renewed = false
  #parent: DiskImage | undefined

  constructor(parts: ImageParts, context: OpenContext) {
    const own = parts.extents.find(
      ({ extent }) => extent instanceof WritableSparse && extent.storage === parts.storage,
    )
    const descriptor = new DescriptorFile(
      writable(parts.storage),
      parts,
      own?.extent instanceof WritableSparse ? own.extent : undefined,
    )
    const backing = backingOf(parts.descriptor) !== undefined
    const map = new WritableMap(parts.extents, backing, parts.storage.label, (options) =>
      this.#beforeChange(options),
    )
    super(parts, context, map)
    this.#descriptor = descriptor
  }

  override async checkBacking(backing: DiskImage): Promise<void> {
    await super.checkBacking(backing)
    // One that does not fit is not followed: the check tells of it.
    if (this.broken === undefined) this.#parent = backing
  }

  protected override mending(): ReturnType<VmdkDriver['mending']> {
    const cid = this.parentCid
    const adopt = async (): Promise<void> => {
      await this.#descriptor.change((descriptor) => descriptor.set('parentCID', hex(cid ?? NO_PARENT)))
      this.broken = undefined
    }
    const flush = async (): Promise<void> => {
      await this.map.flush()
      for (const file of [...this.parts.files, this.parts.storage]) await file.flush?.()
    }
    return { adoptParent: cid === undefined ? undefined : adopt, flush }
  }

  /** The first change after opening gives the disk a new content id: what was made over it can tell. */
  #beforeChange(options?: IoOptions): MaybePromise<void> {
    if (this.#renewed) return
    this.#renewed = true
    return this.#descriptor.renew(options).catch((error: unknown) => {
      this.#renewed = false
      throw error
    })
  }

  /** Sets the size of the last extent; a split disk gets more of them, or loses some. */
  async resize(size: number, options: ResizeOptions): Promise<void> {
    const { resizeDisk } = await import('./resize.js')
    await this.#beforeChange(options)
    const { map, parts } = this
    const { extents, files } = await resizeDisk(parts, map, this.#descriptor, size, this.context, options)
    this.parts = { ...parts, extents, files: [...parts.files, ...files] }
    map.setExtents(extents)
  }

  /**
   * Records another parent, with its content id as it is now.
   * @throws {ImageError} IMG_UNSUPPORTED for a disk with flat extents, or a parent that is no VMDK.
   */
  async setBacking(backing: Reference | undefined, options?: IoOptions): Promise<void> {
    const { storage, extents } = this.parts
    if (backing !== undefined && backing.format !== undefined && backing.format !== 'vmdk') {
      throw vmdkError('IMG_BAD_OPTION', 'the backing file of a VMDK must be a VMDK', storage.label)
    }
    if (backing !== undefined && extents.some(({ extent }) => !(extent instanceof WritableSparse))) {
      throw unsupported('only sparse disks can have a backing file', storage.label)
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they would end the line, or hide in it.
    if (backing && /["\u0000-\u001f]/.test(backing.name)) {
      throw vmdkError(
        'IMG_BAD_OPTION',
        'the name of the backing file cannot be written in a descriptor',
        storage.label,
      )
    }
    const cid = backing === undefined ? NO_PARENT : await this.#parentCid(backing)
    await this.#descriptor.change((descriptor) => {
      descriptor.set('parentCID', hex(cid))
      if (backing === undefined) descriptor.delete('parentFileNameHint')
      else descriptor.set('parentFileNameHint', backing.name, 'createType')
    }, options)
    this.#parent = undefined
  }

  /** The content id that a parent has now. */
  async #parentCid(backing: Reference): Promise<number> {
    const file = await this.context.openReference({ ...backing, kind: 'parent', format: 'vmdk' })
    try {
      const { readCid } = await import('./open.js')
      const cid = await readCid(file, {})
      if (cid !== undefined) return cid
      throw vmdkError('IMG_BAD_OPTION', 'has no content id, and cannot be a parent', file.label)
    } finally {
      await file.close()
    }
  }

  /** Cuts off what no grain needs, of each sparse extent. */
  async compact(options: CompactOptions = {}): Promise<void> {
    const sparse = this.parts.extents
      .map(({ extent }) => extent)
      .filter((extent) => extent instanceof WritableSparse)
    if (sparse.length === 0)
      throw unsupported('flat disks have no room to give back', this.parts.storage.label)
    const { compactSparse } = await import('./compact.js')
    for (const extent of sparse) await compactSparse(extent, this.context, options)
  }

  /** Gives up all grains. */
  async empty(options?: IoOptions): Promise<void> {
    const { storage, extents } = this.parts
    if (extents.some(({ extent }) => !(extent instanceof WritableSparse))) {
      throw unsupported('only sparse disks can be emptied', storage.label)
    }
    await this.#beforeChange(options)
    for (const { extent } of extents) {
      if (extent instanceof WritableSparse) await extent.clear(0, extent.size, 0, options)
    }
    await this.map.flush(options)
    for (const { extent } of extents) {
      if (extent instanceof WritableSparse) await writable(extent.storage).flush(options)
    }
  }

  override async close(): Promise<void> {
    try {
      await this.#followParent()
      for (const file of this.parts.files) if (this.#renewed) await file.flush?.()
    } finally {
      await super.close()
    }
  }

  /** The parent was written through this very chain (`commit`): its new content id is recorded. */
  async #followParent(): Promise<void> {
    const cid = this.#parent && (await cidOf(this.#parent))
    if (cid === undefined || cid === this.parts.descriptor?.cid('parentCID')) return
    await this.#descriptor.change((descriptor) => descriptor.set('parentCID', hex(cid)))
  }
}
