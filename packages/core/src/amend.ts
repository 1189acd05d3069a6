import type { SecretSource } from './secret.js'
import type { IoOptions } from './storage.js'
import type { ImageWarningCode, WarningListener } from './warning.js'

/** What `amend` is given beside the options. */
export interface AmendContext extends IoOptions {
  /** Do also what may lose access to the data (erasing the last key slot). */
  readonly force: boolean
  /** The bytes of a secret, by the id that an option names. */
  readonly secret: SecretSource
  /** Something the user should know that is no error. */
  warn(message: string, code?: ImageWarningCode): void
  /**
   * Sets the virtual size, for an option that asks for it: as `DiskImage.resize`, old content never showing again.
   * @throws {ImageError} IMG_BAD_OPTION where the disk would become smaller without `force`.
   */
  resize(size: number): Promise<void>
  /** Told how far it is; the unit is the format's own. */
  readonly onProgress?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined
}

/** Options of {@link DiskImage.amend}. */
export interface AmendOptions extends IoOptions {
  /** Also what may lose access to data. Default false. */
  readonly force?: boolean | undefined
  /** Gives passphrases, by the ids that options name. Default: there is none. */
  readonly secret?: SecretSource | undefined
  /** Told what the user should know that is no error. */
  readonly onWarning?: WarningListener | undefined
  /** Told how far it is. */
  readonly onProgress?: AmendContext['onProgress']
}
