/**
 * Encryption of disk images: sectors in XTS and CBC mode, LUKS1, and the legacy cipher of qcow.
 * @packageDocumentation
 */
export { type EncryptedOptions, encryptedStorage } from './encrypted-storage.js'
export { legacyAesCipher } from './legacy-aes.js'
export type { HashName } from './primitives.js'
export {
  type CipherMode,
  type CipherSpec,
  type IvGenerator,
  keyBytes,
  type SectorCipher,
  sectorCipher,
} from './sector-cipher.js'
export { sectorBytes } from './words.js'
