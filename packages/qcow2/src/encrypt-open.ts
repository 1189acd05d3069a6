import type { OpenContext, Storage } from '@img/core'
import {
  encryptedStorage,
  type LuksHeader,
  legacyAesCipher,
  luksCipher,
  readLuksHeader,
  type SectorCipher,
  unlockLuks,
} from '@img/crypto'
import { qcow2Error } from './errors.js'
import { encryptionExtension } from './extensions.js'
import { Autoclear } from './features.js'
import { CryptMethod, type Header } from './header.js'

/** Storages kept for images whose guest and host offsets differ in many ways. */
const maxStorages = 4096

/** The encryption of an opened image. */
export interface Encryption {
  /**
   * The storage by which guest data at a host offset is read and written in the clear, at that same offset. Good for all data
   * that goes on in sequence there.
   */
  at(guestOffset: number, hostOffset: number): Storage
  /** The LUKS header and the volume key; absent with the legacy cipher. */
  luks?: { header: LuksHeader; readonly key: Uint8Array }
}

/** LUKS numbers sectors by where they are in the file, so that one storage serves all. Specification: Data Encryption. */
export function luksEncryption(data: Storage, cipher: SectorCipher): Encryption {
  const storage = encryptedStorage(data, cipher)
  return { at: () => storage }
}

/** The legacy cipher numbers them by where they are on the disk: one storage for each difference between the two. */
export function aesEncryption(data: Storage, cipher: SectorCipher): Encryption {
  const storages = new Map<number, Storage>()
  return {
    at(guestOffset, hostOffset) {
      // What a lookup tells of may start inside a sector; the difference is one of whole sectors all the same.
      const vectorOffset = guestOffset - hostOffset
      let storage = storages.get(vectorOffset)
      if (storage === undefined) {
        storage = encryptedStorage(data, cipher, { vectorOffset })
        if (storages.size >= maxStorages) storages.clear()
        storages.set(vectorOffset, storage)
      }
      return storage
    },
  }
}

/**
 * Unlocks an encrypted image.
 * @param data where guest data is
 * @throws {ImageError} IMG_SECRET_MISSING, IMG_WRONG_PASSPHRASE, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_BAD_OPTION.
 */
export async function openEncryption(
  storage: Storage,
  data: Storage,
  header: Header,
  context: OpenContext,
): Promise<Encryption> {
  const { label } = storage
  if (context.writable && header.autoclearFeatures.has(Autoclear.rawDataFile)) {
    throw qcow2Error(
      'IMG_UNSUPPORTED',
      'its data file is to stay valid as a raw image, and cannot be while the image is encrypted',
      label,
      88,
      'open it for reading',
    )
  }
  checkFormat(header, context, label)
  const secret = context.options['encrypt.key-secret'] as string | undefined
  const passphrase = await context.secret(secret)
  if (header.cryptMethod === CryptMethod.aes) {
    if (context.writable) context.warn(`${label}: ${aesWarning}`, 'WARN_WEAK_ENCRYPTION')
    return aesEncryption(data, await legacyAesCipher(passphrase))
  }
  const luks = await readEncryptionHeader(storage, header, context)
  const { key } = await unlockLuks(storage, luks, passphrase, context)
  return { ...luksEncryption(data, await luksCipher(luks, key)), luks: { header: luks, key } }
}

/** What is to be known of the legacy cipher. QEMU's documentation says the same. */
export const aesWarning =
  'the encryption format "aes" is weak (its key is the passphrase, its vectors can be told): use LUKS for new images'

function checkFormat(header: Header, { options }: OpenContext, label: string): void {
  const named = options['encrypt.format'] as string | undefined
  const format = header.cryptMethod === CryptMethod.luks ? 'luks' : 'aes'
  if (named === undefined || named === format) return
  throw qcow2Error(
    'IMG_BAD_OPTION',
    `Header reported '${format}' encryption format but options specify '${named}'`,
    label,
    32,
    'leave encrypt.format out',
  )
}

/** The LUKS header inside an image. Specification: Full disk encryption header pointer. */
async function readEncryptionHeader(
  storage: Storage,
  header: Header,
  context: OpenContext,
): Promise<LuksHeader> {
  const { label } = storage
  const pointer = encryptionExtension(header.extensions, label)
  if (pointer === undefined)
    throw qcow2Error('IMG_CORRUPT', 'Missing CRYPTO header for crypt method 2', label, 32)
  const place = { format: 'qcow2', source: label, offset: pointer.offset }
  return readLuksHeader(storage, place, pointer.length, context)
}
