import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs'
import { constants } from 'node:os'
import { basename, dirname, isAbsolute, join, resolve, sep } from 'node:path'
import { ImageError } from '@img/core'
import { toImageError } from './errors.js'
import { systemError } from './native/errno.js'

/** What stands under the name of a target, and how it is therefore written. */
export interface TargetPath {
  /** The name that is written, symbolic links followed. Absolute. */
  readonly path: string
  /**
   * `file`: a regular file, or none yet: written under another name and renamed. `device`: a block device: written in
   * place. `stream`: a pipe or a character device: can only be written from front to back.
   */
  readonly kind: 'file' | 'device' | 'stream'
  /** What stands there; undefined where nothing does. */
  readonly stats: Stats | undefined
}

/** Linux's own limit (MAXSYMLINKS). */
const maxLinks = 40

/**
 * Where a path leads with all symbolic links followed, also where nothing stands there: then to the name that a new file
 * would have.
 * @throws {SystemError} EACCES, ELOOP, …
 */
export function leadsTo(path: string, links = 0): string {
  // The host resolves: `..` after a symbolic link is above what it leads to.
  const real = orMissing(() => realpathSync.native(path))
  if (real !== undefined) return real
  const parent = dirname(path)
  if (parent === path) return path
  const name = join(leadsTo(parent, links), basename(path))
  if (orMissing(() => lstatSync(name))?.isSymbolicLink() !== true) return name
  if (links === maxLinks) throw systemError(constants.errno.ELOOP, 'readlink')
  return leadsTo(resolve(dirname(name), readlinkSync(name)), links + 1)
}

/** What a look at a path gives; undefined where nothing stands there. */
export function orMissing<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}

/**
 * Looks at the name of a target. Symbolic links are followed, also one that points to nothing: the file that it names is
 * the target, as for `open(2)`.
 * @throws {ImageError} IMG_NOT_FOUND for a missing directory, IMG_UNSUPPORTED for a directory, the name of one (`a/`) or a socket,
 * IMG_PERMISSION.
 */
export function inspectTarget(path: string): TargetPath {
  try {
    if (path === '') throw systemError(constants.errno.ENOENT, 'open')
    const absolute = isAbsolute(path) ? path : process.cwd() + sep + path
    const stats = orMissing(() => statSync(absolute))
    if (stats === undefined && namesDirectory(path)) throw systemError(constants.errno.EISDIR, 'open')
    const kind = kindOf(stats, path)
    // The links in /proc that /dev/stdout leads to name no file where it is a pipe.
    if (kind === 'stream') return { path: absolute, kind, stats }
    const real = leadsTo(absolute)
    if (stats === undefined) statSync(dirname(real))
    return { path: real, kind, stats }
  } catch (error) {
    throw toImageError(error, { source: path, action: 'create' })
  }
}

/** A name of which `open(2)` makes no file. */
function namesDirectory(path: string): boolean {
  return path.endsWith('/') || path.endsWith(sep)
}

function kindOf(stats: Stats | undefined, source: string): TargetPath['kind'] {
  if (stats === undefined || stats.isFile()) return 'file'
  if (stats.isBlockDevice()) return 'device'
  if (stats.isFIFO() || stats.isCharacterDevice()) return 'stream'
  throw new ImageError(
    'IMG_UNSUPPORTED',
    `cannot write ${source}: it is ${stats.isDirectory() ? 'a directory' : 'a socket'}`,
    {
      source,
    },
  )
}
