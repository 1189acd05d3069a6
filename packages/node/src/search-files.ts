import { closeSync, constants, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { Magic } from '@img/core'

/** Files looked into at most: more are in no directory of disk images. */
const maxFiles = 10_000

/**
 * Regular files in a directory that hold all bytes of one of the signatures, by path. Symbolic links are not followed, and what
 * cannot be read is passed over.
 */
export function filesWith(directory: string, signatures: readonly (readonly Magic[])[]): string[] {
  const found: string[] = []
  let looked = 0
  for (const entry of entriesOf(directory)) {
    if (!entry.isFile() || ++looked > maxFiles) continue
    const path = join(directory, entry.name)
    if (holdsAny(path, signatures)) found.push(path)
  }
  return found.sort()
}

/**
 * Whether a file is the one that a reference with `signatures` means: whether it holds all bytes of one of them. False for what is
 * no file, or cannot be read.
 */
export function holdsAny(path: string, signatures: readonly (readonly Magic[])[]): boolean {
  return signatures.some((parts) => parts.length > 0 && holds(path, parts))
}

function entriesOf(directory: string): ReturnType<typeof list> {
  try {
    return list(directory)
  } catch {
    return []
  }
}

function list(directory: string): { readonly name: string; isFile(): boolean }[] {
  return readdirSync(directory, { withFileTypes: true })
}

function holds(path: string, parts: readonly Magic[]): boolean {
  let file: number
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
  } catch {
    return false
  }
  try {
    return parts.every(({ offset, hex }) => {
      const bytes = Buffer.alloc(hex.length / 2)
      return readSync(file, bytes, 0, bytes.length, offset) === bytes.length && bytes.toString('hex') === hex
    })
  } catch {
    return false
  } finally {
    closeSync(file)
  }
}
