import type { SecretSource, Storage } from '@img/core'
import { encryptedStorage, legacyAesCipher, type SectorCipher } from '@img/crypto'
import { qcowError } from './errors.js'

/** Storages kept: one for each difference between places on the disk and in the file. */
const MAX_STORAGES = 4096

/** The encryption of an image: AES-128 in CBC mode, each sector with its number on the disk as initialisation vector. */
export class Encryption {
  readonly cipher: SectorCipher
  readonly #storage: Storage
  readonly #storages = new Map<number, Storage>()

  constructor(storage: Storage, cipher: SectorCipher) {
    this.#storage = storage
    this.cipher = cipher
  }

  /** The storage by which guest data at a host offset is read and written in the clear, at that same offset. */
  at(guestOffset: number, hostOffset: number): Storage {
    const vectorOffset = guestOffset - hostOffset
    let storage = this.#storages.get(vectorOffset)
    if (storage === undefined) {
      storage = encryptedStorage(this.#storage, this.cipher, { vectorOffset })
      if (this.#storages.size >= MAX_STORAGES) this.#storages.clear()
      this.#storages.set(vectorOffset, storage)
    }
    return storage
  }
}

/**
 * Makes the cipher from the passphrase: there is nothing that tells whether it is the right one.
 * @param options checked open or create options
 * @throws {ImageError} IMG_BAD_OPTION, IMG_SECRET_MISSING.
 */
export async function unlock(
  storage: Storage,
  options: Readonly<Record<string, unknown>>,
  secret: SecretSource,
): Promise<Encryption> {
  const format = options['encrypt.format']
  if (format !== undefined && format !== 'aes') {
    throw qcowError(
      'IMG_BAD_OPTION',
      `its encryption format is 'aes', not '${String(format)}'`,
      storage.label,
      36,
    )
  }
  return new Encryption(storage, await passphraseCipher(options, secret))
}

/** The cipher of the passphrase that options name. @throws {ImageError} IMG_BAD_OPTION, IMG_SECRET_MISSING. */
export async function passphraseCipher(
  options: Readonly<Record<string, unknown>>,
  secret: SecretSource,
): Promise<SectorCipher> {
  return legacyAesCipher(await secret(options['encrypt.key-secret'] as string | undefined))
}

/** What is to be known of this cipher. QEMU's documentation says the same. */
export const weakness: string =
  'its encryption (aes) is weak: its key is the passphrase, its vectors can be told; use qcow2 with LUKS for new images'
