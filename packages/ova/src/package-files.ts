import { ImageError, type OpenContext, type Storage } from '@img/core'
import { corrupt, ovaError } from './errors.js'
import { checkFileName, isUrl, stemOf } from './file-name.js'
import { readTarMembers, type TarMember } from './tar-members.js'

/** Where the files of a package are: in an archive, or beside the descriptor. */
export interface PackageFiles {
  /** Label of the archive, or of the descriptor. */
  readonly label: string
  /** Name of the descriptor. */
  readonly descriptor: string
  /** Name of the manifest, where there may be one. */
  readonly manifest: string | undefined
  /** Name of the certificate, where one is known of. */
  readonly certificate: string | undefined
  /** Names of all files, where they are known. */
  readonly names?: readonly string[]
  /**
   * Opens a file, for the caller to close; undefined where there is none of that name.
   * @throws {ImageError} IMG_REFERENCE_DENIED, IMG_IO.
   */
  open(name: string): Promise<Storage | undefined>
}

/** The files of an archive. @throws {ImageError} as `readTarMembers`; IMG_CORRUPT without one descriptor. */
export async function archiveFiles(storage: Storage, context: OpenContext): Promise<PackageFiles> {
  const { label } = storage
  const members = await readTarMembers(storage, context)
  const names = members.map(({ name }) => name)
  const ending = (pattern: RegExp): string[] =>
    // macOS puts a file of attributes beside each, whose name begins so.
    names.filter((name) => pattern.test(name) && !/(^|\/)\._[^/]*$/.test(name))
  const [descriptor, ...others] = ending(/\.ovf$/i)
  if (descriptor === undefined) throw ovaError('IMG_CORRUPT', 'the archive holds no OVF descriptor', label)
  if (others.length > 0) throw corrupt('the archive holds several OVF descriptors', label)
  if (names[0] !== descriptor)
    context.warn(`${label}: the descriptor is not the first file of the archive`, 'WARN_DAMAGED')
  const byName = new Map(members.map((member) => [member.name, member]))
  const own = (list: string[]): string | undefined => {
    const same = list.find((name) => stemOf(name) === stemOf(descriptor))
    return same ?? (list.length === 1 ? list[0] : undefined)
  }
  return {
    label,
    descriptor,
    manifest: own(ending(/\.mf$/i)),
    certificate: own(ending(/\.cert$/i)),
    names,
    open: async (name) => openMember(storage, byName.get(name)),
  }
}

function openMember(storage: Storage, member: TarMember | undefined): Storage | undefined {
  if (member === undefined) return undefined
  const part = storage.slice(member.offset, member.size)
  // Whoever reads of a fault wants to know in which file of the archive it is.
  Object.defineProperty(part, 'label', { value: `${storage.label}/${member.name}` })
  return part
}

/** The files of a folder, opened through the caller's gate. `storage` is the descriptor. */
export function folderFiles(storage: Storage, context: OpenContext): PackageFiles {
  const { label } = storage
  const descriptor = label.replace(/^.*[/\\]/, '')
  const stem = stemOf(descriptor)
  return {
    label,
    descriptor,
    manifest: `${stem}.mf`,
    certificate: undefined,
    async open(name) {
      if (name === descriptor) return storage.slice(0, storage.size)
      try {
        return await context.openReference({ kind: 'extent', name: checkFileName(name, label) })
      } catch (error) {
        if (ImageError.is(error, 'IMG_REFERENCE_MISSING')) return undefined
        throw error
      }
    },
  }
}

/**
 * The name of a file of the package by its reference, a relative URL: as it stands, or with its `%20` undone.
 * @throws {ImageError} IMG_REFERENCE_DENIED for a name that leads out of the package.
 */
export function namesOf(href: string, source: string): readonly string[] {
  if (isUrl(href)) {
    throw ovaError(
      'IMG_REFERENCE_DENIED',
      `the file ${JSON.stringify(href)} is not in the package, and not fetched`,
      source,
      undefined,
      'fetch it, put it beside the descriptor, and name it there',
    )
  }
  const name = checkFileName(href, source)
  if (!name.includes('%')) return [name]
  try {
    return [name, checkFileName(decodeURIComponent(name), source)]
  } catch (error) {
    if (ImageError.is(error)) throw error
    return [name]
  }
}
