import {
  closeSync,
  fchmodSync,
  fchownSync,
  openSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { ImageError, type WritableStorage } from '@img/core'
import { toImageError } from './errors.js'
import { fileHandleOf } from './file-handle.js'
import type { FileStorage } from './file-storage.js'
import { lockImage, type NativeOptions } from './native/index.js'
import { openFileStorageSync } from './open-file.js'
import { addPending, dropPending } from './pending-files.js'
import { inspectTarget, type TargetPath } from './target-path.js'

/** A file being made: whole under its name, or not there at all. */
export interface Target extends AsyncDisposable {
  /** What to write into. Empty, or a block device with its old content. */
  readonly storage: FileStorage & WritableStorage
  /** The name it will have, symbolic links followed. */
  readonly path: string
  /**
   * True for a regular file: written under a temporary name beside it. False for a block device, which is written in
   * place and keeps what was written also without `commit`.
   */
  readonly atomic: boolean
  /**
   * Closes the storage and gives the file its name, in place of one that had it. Nothing is flushed here: what must
   * survive a power cut is flushed before.
   * @throws {ImageError} IMG_IO, IMG_PERMISSION, IMG_CLOSED after `abort`; the target is then given up.
   */
  commit(): Promise<void>
  /** Closes the storage and removes the temporary file. Idempotent; nothing happens after `commit`. */
  abort(): Promise<void>
}

/**
 * Starts a new file, or a new content of a file or block device.
 *
 * A file that exists is replaced as qemu-img would: it must be writable and not in use (its lock is kept until the end,
 * so that a second writer or a virtual machine is refused), symbolic links stay and what they name is replaced, the mode
 * is kept, and for root the owner too. New files have mode 0644 less the umask. Other hard links keep the old content.
 * @throws {ImageError} IMG_NOT_FOUND, IMG_PERMISSION, IMG_READ_ONLY, IMG_LOCKED, IMG_UNSUPPORTED (a pipe, a character
 * device, a directory), IMG_NO_SPACE, IMG_IO.
 */
export function createTarget(path: string, options: NativeOptions = {}): Promise<Target> {
  return new Promise((done) => {
    const found = inspectTarget(path)
    if (found.kind === 'stream') {
      throw new ImageError('IMG_UNSUPPORTED', `${path} can only be written from front to back`, {
        source: path,
        hint: 'write to standard output, with - in place of its name, and redirect that',
      })
    }
    done(found.kind === 'device' ? deviceTarget(path, found, options) : fileTarget(path, found, options))
  })
}

function deviceTarget(label: string, { path }: TargetPath, options: NativeOptions): Target {
  const storage = openFileStorageSync(path, { ...options, writable: true, label }) as Target['storage']
  const close = (): Promise<void> => storage.close()
  return { storage, path, atomic: false, commit: close, abort: close, [Symbol.asyncDispose]: close }
}

function fileTarget(label: string, { path, stats }: TargetPath, options: NativeOptions): Target {
  const release = stats ? holdOld(label, path, stats, options) : () => undefined
  let storage: Target['storage']
  try {
    storage = createTemporary(label, path, stats, options)
  } catch (error) {
    release()
    throw error
  }
  return new FileTarget(storage, path, release)
}

/** Locks the file that will be replaced. @returns what gives the lock back. */
function holdOld(label: string, path: string, stats: Stats, options: NativeOptions): () => void {
  if (statSync(dirname(path)).dev !== stats.dev) {
    throw new ImageError(
      'IMG_UNSUPPORTED',
      `${label} is a mount point of its own and cannot be replaced by another file`,
      {
        source: label,
        hint: 'write beside it and copy, or mount the directory that holds it',
      },
    )
  }
  let fd: number | undefined
  try {
    fd = openSync(path, 'r+')
    const lock = lockImage(fd, 'replace', options)
    const open = fd
    if (lock.held) return () => closeSync(open)
    // Without a lock there is nothing to hold, and Windows could not rename over an open file.
    closeSync(fd)
    return () => undefined
  } catch (error) {
    if (fd !== undefined) closeSync(fd)
    throw toImageError(error, { source: label, action: 'replace' })
  }
}

function createTemporary(
  label: string,
  path: string,
  old: Stats | undefined,
  options: NativeOptions,
): Target['storage'] {
  const temporary = temporaryName(path)
  let storage: FileStorage
  try {
    // Nobody may open the new content who could not open the old one.
    const mode = old ? 0o600 : 0o644
    storage = openFileStorageSync(temporary, { ...options, create: true, mode, lock: 'none', label })
  } catch (error) {
    throw explain(error, label, path)
  }
  addPending(temporary)
  try {
    const { fd } = fileHandleOf(storage) ?? {}
    if (old && fd !== undefined && process.platform !== 'win32') {
      if (process.geteuid?.() === 0) giveTo(fd, old)
      fchmodSync(fd, old.mode & 0o777)
    }
    return storage as Target['storage']
  } catch (error) {
    void storage.close()
    remove(temporary)
    throw toImageError(error, { source: label, action: 'create' })
  }
}

/** Gives a file to the owner of another. Where even root may not (a network file system), it stays root's. */
function giveTo(fd: number, old: Stats): void {
  try {
    fchownSync(fd, old.uid, old.gid)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
  }
}

/** What is wrong is the directory, not the name that the user gave. */
function explain(error: unknown, label: string, path: string): unknown {
  if (!ImageError.is(error, 'IMG_PERMISSION')) return error
  return new ImageError('IMG_PERMISSION', `cannot create ${label}: no file can be made in ${dirname(path)}`, {
    source: label,
    hint: 'a target is written under a temporary name beside it and renamed: the directory must be writable',
    cause: error.cause,
  })
}

/** A hidden name in the same directory that no other writer has. At most 255 bytes, as file systems want it. */
function temporaryName(path: string): string {
  // Opened only where nothing has that name; the generator of `crypto` would take 4 ms to load.
  const tag = Math.floor(Math.random() * 2 ** 48).toString(16)
  const name = `.${basename(path)}.${tag}.part`
  return join(dirname(path), Buffer.byteLength(name) <= 255 ? name : `.img-${tag}.part`)
}

function remove(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  } finally {
    dropPending(path)
  }
}

class FileTarget implements Target {
  readonly storage: Target['storage']
  readonly path: string
  readonly atomic = true
  readonly #release: () => void
  readonly #temporary: string
  #state: 'open' | 'committed' | 'given up' = 'open'
  #ending: Promise<void> | undefined

  constructor(storage: Target['storage'], path: string, release: () => void) {
    this.storage = storage
    this.path = path
    this.#temporary = storage.path
    this.#release = release
  }

  async commit(): Promise<void> {
    this.#ending ??= this.#commit()
    await this.#ending
    if (this.#state === 'given up') {
      throw new ImageError('IMG_CLOSED', `${this.storage.label} was given up`, { source: this.storage.label })
    }
  }

  abort(): Promise<void> {
    // Where a commit is under way, its outcome is not this call's: it leaves the target or nothing.
    this.#ending ??= this.#giveUp()
    return this.#ending.catch((error: unknown) => {
      if (this.#state === 'open') throw error
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.abort()
  }

  async #commit(): Promise<void> {
    try {
      await this.storage.close()
      renameSync(this.#temporary, this.path)
    } catch (error) {
      await this.#giveUp().catch(() => undefined)
      throw toImageError(error, { source: this.storage.label, action: 'replace' })
    }
    this.#state = 'committed'
    dropPending(this.#temporary)
    this.#release()
  }

  async #giveUp(): Promise<void> {
    try {
      await this.storage.close()
    } finally {
      try {
        remove(this.#temporary)
        this.#state = 'given up'
      } finally {
        this.#release()
      }
    }
  }
}
