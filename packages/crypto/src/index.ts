/**
 * Encryption of disk images: sectors in XTS and CBC mode, LUKS1, and the legacy cipher of qcow.
 * @packageDocumentation
 */
export { type EncryptedOptions, encryptedStorage } from './encrypted-storage.js'
export { legacyAesCipher } from './legacy-aes.js'
export { amendLuks, type LuksAmendOptions } from './luks/amend.js'
export { luksLength, type NewLuks, newLuks } from './luks/create.js'
export {
  isLuks,
  type KeySlot,
  type LuksHeader,
  type LuksPlace,
  luksHeaderBytes,
  luksInfo,
  parseLuksHeader,
  readLuksHeader,
} from './luks/header.js'
export { type LuksChoice, type LuksOptions, luksChoice } from './luks/options.js'
export { luksCipher, maxIterations, type Unlocked, unlockLuks } from './luks/unlock.js'
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
