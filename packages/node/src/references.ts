import { closeSync, fsyncSync, openSync, rmSync, statSync } from 'node:fs'
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path'
import {
  type AddedReference,
  describe,
  ImageError,
  isWritable,
  type OpenedReference,
  type Reference,
  type ReferenceResolver,
  type Storage,
  type WritableStorage,
} from '@img/core'
import { createTarget, type Target } from './atomic-target.js'
import { toImageError } from './errors.js'
import { fileHandleOf } from './file-handle.js'
import type { NativeOptions } from './native/index.js'
import { openFileStorageSync } from './open-file.js'
import { parseReferenceName, protocolOf, type ReferenceName } from './reference-name.js'
import { filesWith } from './search-files.js'
import { inspectTarget, leadsTo, orMissing } from './target-path.js'

/** Options of {@link nodeReferences}. */
export interface NodeReferenceOptions extends NativeOptions {
  /**
   * What may be opened beside files in the referring image's own directory and below: files in these directories and
   * below, or `all`: anything, `file:` and `json:` names included. Default: nothing.
   */
  readonly allow?: 'all' | readonly string[] | undefined
  /** Take no notice of programs that write what is read (qemu-img's `-U`). Default false. */
  readonly shared?: boolean | undefined
  /**
   * Allows new files to be made where they may be opened, such as a data file beside a new image. Each is given here
   * when it is started, to be committed or aborted with the image. Default: no file is made.
   */
  readonly onCreate?: ((target: Target) => void) | undefined
}

/**
 * Opens files that images name, as the policy allows: by default only regular files in the directory of the image that
 * names them and below, symbolic links followed first. Refused are all other places, device nodes, and names with a
 * protocol.
 *
 * A relative name counts from the directory of the referring image's path as it was opened, as in QEMU.
 */
export function nodeReferences(options: NodeReferenceOptions = {}): ReferenceResolver {
  const { allow = [], onCreate, native } = options
  const gate = new Gate(allow === 'all' ? undefined : allow)
  const lock = (writable: boolean): 'shared' | undefined =>
    options.shared === true && !writable ? 'shared' : undefined
  return {
    async open(reference, from, { writable, signal }): Promise<OpenedReference> {
      signal?.throwIfAborted()
      const { path, format, options: said } = gate.find(reference, from)
      const label = labelOf(reference, from, path)
      const storage = openFileStorageSync(path, { writable, native, label, lock: lock(writable) })
      return { storage, format, options: said }
    },
    async add(reference, from, { signal }): Promise<AddedReference> {
      signal?.throwIfAborted()
      const path = gate.place(reference, from)
      const storage = openFileStorageSync(path, {
        create: true,
        native,
        label: labelOf(reference, from, path),
      })
      syncDirectory(dirname(path))
      const remove = async (): Promise<void> => {
        await storage.close()
        rmSync(path, { force: true })
      }
      if (!isWritable(storage)) throw new TypeError('a new file is always writable')
      return { storage, remove }
    },
    ...(onCreate && {
      async create(reference: Reference, from: Storage): Promise<WritableStorage> {
        const target = await createTarget(gate.place(reference, from), { native })
        onCreate(target)
        return target.storage
      },
    }),
  }
}

/** The name by which QEMU tells of the file: a relative one after the directory of the referring image's own name. */
function labelOf({ name: stored, signatures }: Reference, from: Storage, path: string): string {
  // Found by what it holds: its name is not in the image.
  const name = signatures === undefined ? stored : relative(directoryOf(from) ?? '', path)
  if (protocolOf(name) !== undefined) return parseReferenceName(name).path
  if (isAbsolute(name)) return name
  return from.label.slice(0, from.label.lastIndexOf(sep) + 1) + name
}

/** Where a name leads, and what else it tells. */
type Found = Pick<ReferenceName, 'path' | 'format' | 'options'>

class Gate {
  /** Undefined: everything is allowed. */
  readonly #directories: readonly string[] | undefined

  constructor(directories: readonly string[] | undefined) {
    this.#directories = directories?.map((directory) => resolve(directory))
  }

  /** The file that a reference names. @throws {ImageError} IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING. */
  find(reference: Reference, from: Storage): Found {
    if (reference.signatures !== undefined) return { path: this.#search(reference, from) }
    const { path, format, options } = this.#locate(reference, from)
    const real = this.#leadsTo(path, reference, from)
    const stats = orMissing(() => statSync(real))
    const device = stats !== undefined && !stats.isFile()
    // Whether there is a file in places that are not allowed is not told.
    if (!this.#allows(real, from, device)) {
      const where = device && this.#allows(real, from) ? 'which is no regular file' : outside(from)
      throw this.#denied(reference, from, where)
    }
    if (stats !== undefined) return { path: real, format, options }
    throw new ImageError(
      'IMG_REFERENCE_MISSING',
      `${from.label} refers to ${describe(reference)}, but there is no file ${real}`,
      { source: from.label, hint: 'put the file there, or change the name in the image with rebase' },
    )
  }

  /** The file beside the image, or else in a directory that the caller named, that holds certain bytes. */
  #search(reference: Reference, from: Storage): string {
    const own = directoryOf(from)
    const directories = [...(own === undefined ? [] : [own]), ...(this.#directories ?? [])]
    for (const directory of directories) {
      const [first, second] = filesWith(directory, reference.signatures ?? [])
      if (first === undefined) continue
      if (second === undefined) return first
      throw this.#denied(reference, from, `which both ${first} and ${second} are`)
    }
    throw new ImageError(
      'IMG_REFERENCE_MISSING',
      `${from.label} refers to ${describe(reference)}, but no file in ${directories.join(', ') || 'reach'} is that`,
      {
        source: from.label,
        hint: 'put the file there, or name it: --open parent=FILE',
      },
    )
  }

  /** The name of a file to be made. @throws {ImageError} IMG_REFERENCE_DENIED. */
  place(reference: Reference, from: Storage): string {
    const { path } = inspectTarget(this.#locate(reference, from).path)
    if (!this.#allows(path, from)) throw this.#denied(reference, from, outside(from))
    return path
  }

  #leadsTo(path: string, reference: Reference, from: Storage): string {
    try {
      return leadsTo(path)
    } catch (error) {
      if (!this.#allows(resolve(path), from)) throw this.#denied(reference, from, outside(from))
      throw toImageError(error, { source: path, action: 'open' })
    }
  }

  /** A path as the host would take it: `..` after a symbolic link is not resolved here. */
  #locate(reference: Reference, from: Storage): Found {
    const { name } = reference
    if (name === '' || name.includes('\0')) throw this.#denied(reference, from, 'which is no file name')
    const parsed =
      this.#directories === undefined ? understand(reference, from) : this.#plain(reference, from)
    if (isAbsolute(parsed.path)) return parsed
    const base = parsed.fromWorkingDirectory ? process.cwd() : directoryOf(from)
    if (base === undefined) {
      throw this.#denied(reference, from, `a relative name, and ${from.label} is not in a directory`)
    }
    return { ...parsed, path: base + sep + parsed.path }
  }

  #plain(reference: Reference, from: Storage): ReferenceName {
    const { name } = reference
    const protocol = protocolOf(name)
    if (protocol !== undefined)
      throw this.#denied(reference, from, `a name with a protocol prefix (${protocol})`)
    if (name.startsWith('\\\\')) throw this.#denied(reference, from, 'a name on another host')
    return { path: name, fromWorkingDirectory: false }
  }

  /** Whether the policy covers a path. Device nodes must be in a directory that the caller named. */
  #allows(path: string, from: Storage, device = false): boolean {
    if (this.#directories === undefined) return true
    const own = device ? undefined : directoryOf(from)
    const directories = own === undefined ? this.#directories : [own, ...this.#directories]
    return directories.some(
      (directory) => isInside(path, directory) || isInside(path, realDirectory(directory)),
    )
  }

  #denied(reference: Reference, from: Storage, why: string): ImageError {
    const path =
      protocolOf(reference.name) === undefined ? resolve(directoryOf(from) ?? '', reference.name) : undefined
    const directory =
      path !== undefined && !reference.name.includes('\0') ? `--allow-ref ${dirname(path)} or ` : ''
    return new ImageError(
      'IMG_REFERENCE_DENIED',
      `${from.label} refers to ${describe(reference)}, ${why}: not opened`,
      {
        source: from.label,
        hint: `if you trust this image, allow it with ${directory}--allow-ref all`,
      },
    )
  }
}

/** Makes the names in a directory durable, where the host can. */
function syncDirectory(path: string): void {
  let directory: number | undefined
  try {
    directory = openSync(path, 'r')
    fsyncSync(directory)
  } catch {
    // Windows knows no such call, and network file systems may not.
  } finally {
    if (directory !== undefined) closeSync(directory)
  }
}

function outside(from: Storage): string {
  const directory = directoryOf(from)
  return directory === undefined
    ? 'and what it may refer to was not told'
    : `which is outside the image's directory ${directory}`
}

/** Names in every form, for callers that allow all; the error says which image has the name. */
function understand(reference: Reference, from: Storage): ReferenceName {
  try {
    return parseReferenceName(reference.name)
  } catch (error) {
    if (!ImageError.is(error)) throw error
    const { code, message, hint, cause } = error
    throw new ImageError(code, `${from.label} refers to ${describe(reference)}: ${message}`, {
      source: from.label,
      hint,
      cause,
    })
  }
}

function directoryOf(from: Storage): string | undefined {
  const path = fileHandleOf(from)?.path
  return path === undefined ? undefined : dirname(path)
}

function realDirectory(directory: string): string {
  try {
    return leadsTo(directory)
  } catch {
    return directory
  }
}

function isInside(path: string, directory: string): boolean {
  const way = relative(directory, path)
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}
