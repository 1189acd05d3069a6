import { ImageError } from '@img/core'
import { type SectorCipher, sectorCipher } from './sector-cipher.js'

/**
 * The cipher of qcow images and of qcow2 images with crypt_method 1: AES-128 in CBC mode, the number of the guest's sector as
 * initialisation vector, and as key the first 16 bytes of the passphrase, filled up with zeros. There is nothing that tells
 * whether a passphrase is the right one.
 * @throws {ImageError} IMG_BAD_OPTION for an empty passphrase.
 */
export function legacyAesCipher(passphrase: Uint8Array): Promise<SectorCipher> {
  if (passphrase.length === 0) throw new ImageError('IMG_BAD_OPTION', 'the passphrase is empty')
  const key = new Uint8Array(16)
  key.set(passphrase.subarray(0, 16))
  return sectorCipher({ mode: 'cbc', ivgen: 'plain64' }, key)
}
