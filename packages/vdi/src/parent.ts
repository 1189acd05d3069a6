import type { DiskImage, Driver, IoOptions, Storage } from '@img/core'
import { corrupt, vdiError } from './errors.js'
import { type Header, readHeader } from './header.js'
import { nullUuid } from './uuid.js'

/** How an image is known to its children. */
export interface Identity {
  /** Its creation UUID. */
  readonly uuidCreate: string
  /** Its modification UUID. */
  readonly uuidModify: string
}

/** Drivers of opened images tell it by this function: also that of an image that is being changed. */
const identities = new WeakMap<Driver, () => Identity>()

/** Makes the identity of an opened image known to its children. */
export function tellIdentity(driver: Driver, identity: () => Identity): void {
  identities.set(driver, identity)
}

/** Checks that the image that was opened as parent is the one whose child this is. */
export class ParentCheck {
  readonly #source: string
  readonly #header: Header
  #opened: DiskImage | undefined

  constructor(source: string, header: Header) {
    this.#source = source
    this.#header = header
  }

  /** @throws {ImageError} IMG_CORRUPT where it is another image, or was changed since. */
  async check(image: DiskImage, options?: IoOptions): Promise<void> {
    const { uuidLink, uuidParentModify } = this.#header
    this.#opened = image
    const found = await identityOf(image, options)
    if (uuidLink !== nullUuid && found.uuidCreate !== uuidLink) {
      throw corrupt(
        `${image.storage.label} is not its parent: its UUID is ${found.uuidCreate}, not ${uuidLink}`,
        this.#source,
        424,
      )
    }
    if (uuidParentModify !== nullUuid && found.uuidModify !== uuidParentModify) {
      throw vdiError(
        'IMG_CORRUPT',
        `its parent ${image.storage.label} was changed after this image was made`,
        this.#source,
        440,
        'if you know that nothing the guest sees was changed, name the parent anew with rebase -u',
      )
    }
  }

  /** The parent, once it was opened. */
  get image(): DiskImage | undefined {
    return this.#opened
  }

  /** The identity that the opened parent has now; undefined without one. */
  async now(options?: IoOptions): Promise<Identity | undefined> {
    return this.#opened === undefined ? undefined : identityOf(this.#opened, options)
  }
}

async function identityOf(image: DiskImage, options?: IoOptions): Promise<Identity> {
  return identities.get(image.driver)?.() ?? readIdentity(image.storage, options)
}

/**
 * Reads the identity of an image that is to become a parent.
 * @throws {ImageError} IMG_UNSUPPORTED where it is no VDI image; as `readHeader`.
 */
export async function readIdentity(storage: Storage, options?: IoOptions): Promise<Identity> {
  try {
    const { uuidCreate, uuidModify } = await readHeader(storage, options)
    return { uuidCreate, uuidModify }
  } catch (error) {
    if ((error as { code?: string }).code !== 'IMG_NOT_THIS_FORMAT') throw error
    throw vdiError(
      'IMG_UNSUPPORTED',
      'the parent of a VDI image has to be a VDI image: it is known by its UUID',
      storage.label,
      undefined,
      'convert it to VDI',
    )
  }
}
