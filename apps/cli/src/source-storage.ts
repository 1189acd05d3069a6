import { httpStorage, type Storage } from '@img/core'
import { type FileStorageOptions, openFileStorage } from '@img/node'
import { Failure } from './errors.js'

/** True for the address of a file on a web server. */
export function isUrl(name: string): boolean {
  return /^https?:\/\//i.test(name)
}

/** Storages on web servers, and where they are. */
const places = new WeakMap<Storage, string>()

/** Where on a web server a storage is; undefined for any other. */
export function urlOf(storage: Storage): string | undefined {
  return places.get(storage)
}

/**
 * Opens what the user named: a file, a block device, or a file on a web server, of which only what is read is fetched.
 * @throws {ImageError} as `openFileStorage` and `httpStorage` do.
 * @throws {Failure} for a URL that is to be written, or is none.
 */
export async function openSourceStorage(
  name: string,
  options: FileStorageOptions & { readonly signal?: AbortSignal | undefined } = {},
): Promise<Storage> {
  const { signal, ...file } = options
  if (!isUrl(name)) return openFileStorage(name, file)
  if (file.writable === true || file.create === true) {
    throw new Failure(`Could not open '${name}': a file on a web server is only read`)
  }
  try {
    const storage = await httpStorage(name, { signal })
    places.set(storage, name)
    return storage
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new Failure(`Could not open '${name}': ${error.message}`, { cause: error })
  }
}

/** @throws {Failure} where a new image is to be made on a web server. */
export function refuseUrlTarget(name: string): void {
  const scheme = /^(https?):\/\//i.exec(name)?.[1]?.toLowerCase()
  if (scheme === undefined) return
  throw new Failure(`Protocol driver '${scheme}' does not support image creation`, {
    hint: 'make it in a file here, and send that; or write to standard output: -',
  })
}
