import {
  type CheckOptions,
  type CheckResult,
  type ClusterMap,
  type DiskImage,
  type Driver,
  type FormatInfo,
  ImageError,
  type IoOptions,
  type OpenContext,
  type Reference,
  type Storage,
} from '@img/core'
import type { Descriptor } from './descriptor.js'
import { corrupt } from './errors.js'
import { FlatExtent } from './extent.js'
import { describeImage } from './info.js'
import { NO_PARENT } from './limits.js'
import { ExtentMap } from './mapping.js'
import type { DiskExtent } from './open-extents.js'

/** What the driver of an opened image is made of. */
export interface ImageParts {
  readonly storage: Storage
  readonly descriptor: Descriptor | undefined
  /** Where the descriptor stands in `storage`, and how many bytes it may take; no room where it is a file of its own. */
  readonly descriptorPlace: { readonly offset: number; readonly room: number | undefined }
  readonly createType: string
  readonly extents: readonly DiskExtent[]
  /** Files opened beside the storage, closed with the driver. */
  readonly files: readonly Storage[]
  readonly unreadable?: ImageError | undefined
}

/** An opened image. */
export class VmdkDriver implements Driver {
  readonly map: ClusterMap
  readonly unreadable: ImageError | undefined
  readonly holes: 'mark' | undefined
  protected parts: ImageParts
  protected readonly context: OpenContext
  /** What is wrong with the parent, and the content id that it has, once it was looked at. */
  protected broken: ImageError | undefined
  protected parentCid: number | undefined
  /** The parent was not opened: a check has to ask itself. */
  #unasked = true

  constructor(parts: ImageParts, context: OpenContext, map?: ClusterMap) {
    this.parts = parts
    this.unreadable = parts.unreadable
    this.context = context
    this.map = map ?? new ExtentMap(parts.extents)
    this.holes = parts.extents.some(({ extent }) => extent instanceof FlatExtent) ? 'mark' : undefined
  }

  get size(): number {
    const last = this.parts.extents.at(-1)
    return last === undefined ? 0 : last.offset + last.size
  }

  get backing(): Reference | undefined {
    return backingOf(this.parts.descriptor)
  }

  info(): FormatInfo {
    const { storage, descriptor, createType, extents } = this.parts
    return describeImage(storage.label, descriptor, createType, extents)
  }

  /** @throws {ImageError} IMG_CORRUPT where the parent is not the one that this disk was made over, or was changed since. */
  async checkBacking(backing: DiskImage): Promise<void> {
    this.#compareParent(await cidOf(backing), backing.storage.label)
    // Only to be checked or repaired: then the check tells of it.
    if (this.broken && this.context.repair !== true) throw this.broken
  }

  /** Looks for damage, and mends it where the image is open for writing and that is asked for. */
  async check(options: CheckOptions): Promise<CheckResult> {
    const { checkDisk } = await import('./check.js')
    const { storage, extents } = this.parts
    const parentUntold = this.#unasked ? await this.#askParent(options) : undefined
    const parent = { parentError: this.broken, parentUntold }
    return checkDisk({ source: storage.label, extents, ...parent, ...this.mending() }, options)
  }

  /** Asks the parent for its content id, and nothing else. Returns why it cannot be asked. */
  async #askParent(options: IoOptions): Promise<ImageError | undefined> {
    const { backing } = this
    if (backing === undefined) return this.unreadable
    try {
      const file = await this.context.openReference({ ...backing, kind: 'parent' })
      try {
        const { readCid } = await import('./open.js')
        this.#compareParent(await readCid(file, options), file.label)
      } finally {
        await file.close()
      }
      return undefined
    } catch (error) {
      if (ImageError.is(error)) return error
      throw error
    }
  }

  /** What repairs need; an image that is not open for writing has none of it. */
  protected mending(): { readonly adoptParent: (() => Promise<void>) | undefined; flush(): Promise<void> } {
    const nothing = async (): Promise<void> => undefined
    return { adoptParent: this.parentCid === undefined ? undefined : nothing, flush: nothing }
  }

  #compareParent(found: number | undefined, label: string): void {
    const { storage, descriptor } = this.parts
    const wanted = descriptor?.cid('parentCID') ?? NO_PARENT
    this.#unasked = false
    this.parentCid = found
    if (found === wanted) {
      this.broken = undefined
      return
    }
    const told = found === undefined ? 'has no CID' : `is of CID ${hex(found)}`
    this.broken = corrupt(
      `the chain is broken: its parent must have CID ${hex(wanted)}, and ${label} ${told}`,
      storage.label,
      undefined,
      'the parent was written after this disk was made over it, or is another; ' +
        'if its content is known to be right, `img check -r all` or `img rebase -u` records its CID',
    )
  }

  async close(): Promise<void> {
    for (const file of this.parts.files) await file.close()
  }
}

/** The content id of an opened image; undefined where it is no VMDK. */
export async function cidOf(image: DiskImage): Promise<number | undefined> {
  if (image.format.name !== 'vmdk') return undefined
  const { specific } = await image.driver.info()
  const cid = specific?.cid
  return typeof cid === 'number' ? cid : undefined
}

/** The parent that a descriptor names. Technote, "parentFileNameHint". */
export function backingOf(descriptor: Descriptor | undefined): Reference | undefined {
  const name = descriptor?.get('parentFileNameHint')
  if (name === undefined || name === '') return undefined
  return { kind: 'backing', name, format: 'vmdk' }
}

/** A content id as descriptors spell it. */
export function hex(cid: number): string {
  return cid.toString(16).padStart(8, '0')
}
