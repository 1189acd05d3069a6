import { ImageError } from '@img/core'
import { CbcCipher } from './cbc.js'
import { EcbCipher } from './ecb.js'
import { ivGenerator } from './iv.js'
import { digestBytes, type HashName, loadPrimitives } from './primitives.js'
import { XtsCipher } from './xts.js'

/** Modes in which sectors are encrypted. `ecb` uses no vectors. */
export type CipherMode = 'xts' | 'cbc' | 'ecb'

/**
 * Initialisation vectors: the sector number in 32 or 64 bits, little-endian (`plain`, `plain64`), or that number encrypted
 * with a hash of the key (`essiv`).
 */
export type IvGenerator = 'plain' | 'plain64' | 'essiv'

/** How sectors are encrypted: always with AES. */
export interface CipherSpec {
  readonly mode: CipherMode
  readonly ivgen: IvGenerator
  /** Of `essiv` only. */
  readonly ivHash?: HashName | undefined
}

/** Encrypts and decrypts whole sectors in place. */
export interface SectorCipher {
  /**
   * Encrypts sectors that follow one another.
   * @param bytes whole sectors; the last one may be shorter, a multiple of 16 bytes
   * @param sector number of the first of them, a safe integer not below 0
   */
  encrypt(bytes: Uint8Array, sector: number): void
  /** As `encrypt`. */
  decrypt(bytes: Uint8Array, sector: number): void
}

/** Bytes of the key for AES of so many bits: XTS takes two keys. */
export function keyBytes(mode: CipherMode, aesBits: number): number {
  return (aesBits / 8) * (mode === 'xts' ? 2 : 1)
}

/**
 * A cipher for sectors. The key is copied.
 * @throws {ImageError} IMG_UNSUPPORTED for a length of key that AES or the hash of `essiv` does not have.
 */
export async function sectorCipher(spec: CipherSpec, key: Uint8Array): Promise<SectorCipher> {
  const { mode, ivgen, ivHash = 'sha256' } = spec
  const aesBytes = mode === 'xts' ? key.length / 2 : key.length
  assertAesKey(aesBytes, `${mode} with a key of ${key.length * 8} bits`)
  if (ivgen === 'essiv') assertAesKey(digestBytes[ivHash], `essiv with ${ivHash}`)
  const primitives = await loadPrimitives()
  if (mode === 'ecb') return new EcbCipher(primitives.aes(key.slice()))
  const ivs = ivGenerator(primitives, ivgen, key, ivHash)
  if (mode === 'cbc') return new CbcCipher(primitives.aes(key.slice()), ivs)
  const data = primitives.aes(key.slice(0, aesBytes))
  return new XtsCipher(data, primitives.aes(key.slice(aesBytes)), ivs)
}

function assertAesKey(bytes: number, what: string): void {
  if (bytes === 16 || bytes === 24 || bytes === 32) return
  throw new ImageError('IMG_UNSUPPORTED', `there is no AES for ${what}`)
}
