import {
  alignUp,
  type CreateContext,
  ImageError,
  type IoOptions,
  type Reference,
  type Storage,
} from '@img/core'
import { fault } from './faults.js'
import { utf16Bytes, utf16Text } from './fields.js'
import { findFooter } from './find-footer.js'
import type { Footer } from './footer.js'
import { sectorSize } from './geometry.js'
import type { DynamicHeader, ParentRecord } from './header.js'

/** Longest name read, in bytes: the longest path of Windows. */
const maxNameBytes = 65_536

/** Kinds of names of a parent, the one that survives a move of both files first; none for the rest (Mac aliases, ANSI). */
const readers: Readonly<Record<string, (bytes: Uint8Array) => string>> = {
  W2ru: (bytes) => utf16Text(bytes, true),
  MacX: fileUrlPath,
  W2ku: (bytes) => utf16Text(bytes, true),
}

/**
 * The parent that a differencing disk names: by relative path, else file URL, else absolute path, else the bare file name of
 * the header. VHD specification, "Implementing a Differencing Hard Disk".
 * @throws {ImageError} IMG_CORRUPT where there is no name at all.
 */
export async function parentReference(
  storage: Storage,
  header: DynamicHeader,
  options: IoOptions & { warn(message: string): void },
): Promise<Reference> {
  for (const [platform, decode] of Object.entries(readers)) {
    const locator = header.locators.find((candidate) => candidate.platform === platform)
    if (locator === undefined) continue
    if (locator.length > maxNameBytes || locator.offset + locator.length > storage.size) {
      options.warn(`${storage.label}: the ${platform} name of the parent is damaged and is not used`)
      continue
    }
    const bytes = new Uint8Array(locator.length)
    await storage.read(locator.offset, bytes, options)
    const name = portableName(decode(bytes))
    if (name !== '') return { kind: 'parent', name, format: 'vpc' }
  }
  const name = portableName(header.parentName)
  if (name === '') throw fault('IMG_CORRUPT', storage, 'a differencing disk that names no parent')
  return { kind: 'parent', name, format: 'vpc' }
}

function fileUrlPath(bytes: Uint8Array): string {
  const [url = ''] = new TextDecoder().decode(bytes).split('\0')
  try {
    return decodeURIComponent(url.replace(/^file:\/\/[^/]*/, ''))
  } catch {
    return ''
  }
}

/** A Windows path as other systems write it, where it has a meaning there: without drive letter and host. */
function portableName(name: string): string {
  if (/^([a-z]:|\\\\)/i.test(name)) return name
  return name.replaceAll('\\', '/').replace(/^(\.\/+)+/, '')
}

/** The parent's name as a new disk has it. */
interface ParentName {
  /** File name without directories. */
  readonly file: string
  readonly platform: 'W2ru' | 'W2ku'
  readonly bytes: Uint8Array
  /** Bytes that it takes in the file: whole sectors. */
  readonly room: number
}

/**
 * The name of a new disk's parent, as given by the user, for the header and its locator: Windows paths, relative ones
 * with a leading dot. @throws {ImageError} IMG_BAD_OPTION for what is no file name.
 */
export function parentName(name: string): ParentName {
  const windows = name.replaceAll('/', '\\')
  const file = windows.slice(windows.lastIndexOf('\\') + 1)
  if (file === '' || file.length > 255 || windows.length * 2 > maxNameBytes || name.includes('\0')) {
    throw new ImageError('IMG_BAD_OPTION', `${JSON.stringify(name)} is no file name for a parent`, {
      format: 'vpc',
    })
  }
  const absolute = /^(\\|[a-z]:)/i.test(windows)
  const text = absolute || windows.startsWith('..\\') ? windows : `.\\${windows.replace(/^(\.\\)+/, '')}`
  const bytes = utf16Bytes(text, true)
  return { file, platform: absolute ? 'W2ku' : 'W2ru', bytes, room: alignUp(bytes.length, sectorSize) }
}

/** What is written of the parent into a new disk. */
export interface NewParent {
  /** The parent's own footer: size and geometry are taken over. */
  readonly footer: Footer
  readonly record: ParentRecord
  /** Names, each to be written at its locator's offset. */
  readonly names: readonly Uint8Array[]
  /** Bytes that they take in the file. */
  readonly room: number
}

/**
 * Opens the parent of a new disk through the caller's gate and reads what the disk has to record of it.
 * `at`: where in the new file its name will stand.
 * @throws {ImageError} IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING, IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_BAD_OPTION.
 */
export async function readParent(name: string, at: number, context: CreateContext): Promise<NewParent> {
  const { file, platform, bytes, room } = parentName(name)
  const storage = await context.openReference({ kind: 'parent', name, format: 'vpc' })
  try {
    const { footer } = await findFooter(storage, context)
    const { uuid, timestamp } = footer
    const locators = [{ platform, length: bytes.length, offset: at }]
    return { footer, record: { uuid, timestamp, name: file, locators }, names: [bytes], room }
  } finally {
    await storage.close()
  }
}
