import {
  type CreateOptions,
  type DiskImage,
  type Driver,
  describe,
  ImageError,
  noSecret,
  openImage,
  type Reference,
  type ReferenceResolver,
} from '@img/core'
import { check, fail, works } from './fault.js'
import type { ImageFiles } from './image-files.js'
import type { Kit } from './kit.js'
import { SparseBytes } from './sparse-bytes.js'
import { type Call, changing, type KitStorage, kitStorage } from './storages/kit-storage.js'

/** A call of one of the files. `file`: the name of a reference, or empty for the image itself. */
export type FileHook = (call: Call, file: string) => void | Promise<void>

/** How a session opens its files. */
export interface SessionOptions {
  readonly writable?: boolean | undefined
  readonly inspect?: boolean | undefined
  /** To be repaired: damage is no reason to refuse. */
  readonly repair?: boolean | undefined
  readonly chain?: boolean | undefined
  /** Refuse every reference. */
  readonly deny?: boolean | undefined
  readonly sync?: boolean | undefined
  readonly before?: FileHook | undefined
  readonly openOptions?: Readonly<Record<string, unknown>> | undefined
  readonly signal?: AbortSignal | undefined
}

/** Far more calls than any test takes: what does not end otherwise, ends there. */
const mostCalls = 1_000_000

/** The files of one image, opened once, with a record of what was opened and a watch on what is written. */
export class Session {
  readonly files: ImageFiles
  /** References that were asked for, in order. */
  readonly asked: Reference[] = []
  readonly storages: KitStorage[] = []
  /** What was done that is never allowed. */
  readonly faults: string[] = []
  readonly main: KitStorage
  readonly #kit: Kit
  readonly #options: SessionOptions
  #calls = 0

  constructor(kit: Kit, files: ImageFiles, options: SessionOptions = {}) {
    this.#kit = kit
    this.#options = options
    this.files = files
    this.main = this.#storage('', files.main, options.writable === true)
  }

  /** Allows the references among the files, unless the session denies all. */
  get references(): ReferenceResolver {
    return {
      open: async (reference, from, { writable }) => {
        this.asked.push(reference)
        const refuse = (code: 'IMG_REFERENCE_DENIED' | 'IMG_REFERENCE_MISSING'): ImageError =>
          new ImageError(code, `${from.label}: ${describe(reference)} is not to be opened`)
        if (this.#options.deny === true) throw refuse('IMG_REFERENCE_DENIED')
        const bytes = this.files.others.get(reference.name)
        if (bytes === undefined) throw refuse('IMG_REFERENCE_MISSING')
        return { storage: this.#storage(reference.name, bytes, writable) }
      },
      create: async (reference) => {
        this.asked.push(reference)
        const bytes = new SparseBytes()
        this.files.others.set(reference.name, bytes)
        return this.#storage(reference.name, bytes, true)
      },
    }
  }

  open(): Promise<DiskImage> {
    const { writable, inspect, chain, openOptions, signal } = this.#options
    return openImage(this.main, {
      format: this.#kit.format,
      registry: this.#kit.registry,
      references: this.references,
      options: openOptions ?? this.#kit.subject.openOptions,
      writable,
      inspect,
      chain,
      repair: this.#options.repair,
      secret: this.#kit.subject.secret,
      signal,
    })
  }

  /** What creating is allowed to use: the image's files, and the subject's secrets. */
  get leave(): Pick<CreateOptions, 'references' | 'secret'> {
    return { references: this.references, secret: this.#kit.subject.secret }
  }

  /** Opens the driver alone, without core around it. */
  openDriver(): Promise<Driver> {
    const { writable = false, inspect = false, openOptions, signal } = this.#options
    return this.#kit.format.open(this.main, {
      options: this.#kit.openValues(openOptions),
      writable,
      inspect,
      signal,
      secret: this.#kit.subject.secret ?? noSecret,
      openReference: async (reference) =>
        (await this.references.open(reference, this.main, { writable })).storage,
      openInside: (storage, format) =>
        openImage(storage, { registry: this.#kit.registry, format, inspect, signal }),
      warn: () => undefined,
    })
  }

  /** Demands that nothing forbidden was done. */
  assertLawful(): void {
    check(this.faults.length === 0, this.faults[0] ?? '')
  }

  /** Demands the same, and that everything opened was closed. */
  assertClosed(): void {
    this.assertLawful()
    for (const { label, closed } of this.storages) check(closed > 0, `${label} was left open`)
  }

  #storage(file: string, bytes: SparseBytes, writable: boolean): KitStorage {
    const label = file === '' ? 'image of the test' : file
    const { before, sync } = this.#options
    const storage = kitStorage(bytes, {
      label,
      sync,
      before: (call) => {
        if (!writable && changing.has(call.op)) {
          const fault = `${call.op} at ${call.offset} of ${label}, which was opened to be read only`
          this.faults.push(fault)
          throw new ImageError('IMG_READ_ONLY', fault)
        }
        if (++this.#calls > mostCalls) fail(`it makes more than ${mostCalls} calls of the storage: a loop`)
        return before?.(call, file)
      },
    })
    this.storages.push(storage)
    return storage
  }
}

/** Opens an image, hands it over, closes it, and demands that nothing forbidden was done. */
export async function using<T>(
  kit: Kit,
  files: ImageFiles,
  options: SessionOptions,
  body: (image: DiskImage, session: Session) => Promise<T>,
): Promise<T> {
  const session = new Session(kit, files, options)
  const image = await works('opening the image', () => session.open())
  let result: T
  try {
    result = await body(image, session)
  } catch (error) {
    await image.close().catch(() => undefined)
    throw error
  }
  await works('closing the image', () => image.close())
  session.assertClosed()
  return result
}
