import { ImageError } from './errors.js'
import type { Reference } from './format.js'
import type { IoOptions, Storage, WritableStorage } from './storage.js'

/** What a resolver opened. */
export interface OpenedReference {
  readonly storage: Storage
  /** Format that the name itself tells (qemu's `json:` names), stronger than the recorded one. */
  readonly format?: string | undefined
  /** Values for the open options of a backing file, such as the id of its secret. Absent: none. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
}

/** A file that a resolver made beside an image that exists. */
export interface AddedReference {
  readonly storage: WritableStorage
  /** Closes it and takes it away again. */
  remove(): Promise<void>
}

/**
 * The gate: every file that an image names is opened by one of these, or not at all.
 * @see design: nothing is opened that the caller did not allow.
 */
export interface ReferenceResolver {
  /**
   * Opens what `reference`, found in `from`, names.
   * @throws {ImageError} IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
   */
  open(
    reference: Reference,
    from: Storage,
    options: IoOptions & { readonly writable: boolean },
  ): Promise<OpenedReference>
  /** Makes a new file beside a new image. Absent: refused. */
  create?(reference: Reference, from: Storage, options: IoOptions): Promise<WritableStorage>
  /**
   * Makes a file beside an image that is being changed: at once under its name, where nothing may be yet, and so that the name
   * survives a power cut. Absent: refused.
   * @throws {ImageError} IMG_EXISTS, IMG_REFERENCE_DENIED.
   */
  add?(reference: Reference, from: Storage, options: IoOptions): Promise<AddedReference>
}

/** Refuses everything: the default of the library. */
export const denyReferences: ReferenceResolver = {
  open(reference, from) {
    return Promise.reject(
      new ImageError(
        'IMG_REFERENCE_DENIED',
        `${from.label} refers to ${describe(reference)}, which was not allowed to be opened`,
        {
          source: from.label,
          hint: 'pass a reference resolver that allows it',
        },
      ),
    )
  },
}

/** Names a reference in a message. */
export function describe(reference: Reference): string {
  const nouns = { backing: 'backing file', data: 'data file', extent: 'extent', parent: 'parent' }
  return `${nouns[reference.kind]} ${JSON.stringify(reference.name)}`
}

/** Opens references from a table of names: for tests, and for pages where the user picked the files. */
export function referencesFrom(
  files: Readonly<Record<string, Storage | (() => Storage | Promise<Storage>)>>,
): ReferenceResolver {
  return {
    async open(reference, from) {
      const file = Object.hasOwn(files, reference.name) ? files[reference.name] : undefined
      if (file === undefined) {
        throw new ImageError(
          'IMG_REFERENCE_MISSING',
          `${from.label} refers to ${describe(reference)}, which was not given`,
          {
            source: from.label,
          },
        )
      }
      return { storage: typeof file === 'function' ? await file() : file }
    },
  }
}
