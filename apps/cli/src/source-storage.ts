import { httpStorage, type Storage } from '@img/core'
import { type FileStorageOptions, openFileStorage } from '@img/node'
import { Failure } from './errors.js'

/** True for the address of a file on a web server. */
export function isUrl(name: string): boolean {
  return /^https?:\/\//i.test(name)
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
    return await httpStorage(name, { signal })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new Failure(`Could not open '${name}': ${error.message}`, { cause: error })
  }
}
