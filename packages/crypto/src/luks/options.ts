import { ImageError } from '@img/core'
import { digestBytes, type HashName } from '../primitives.js'
import { type CipherMode, type CipherSpec, type IvGenerator, keyBytes } from '../sector-cipher.js'

/** How a new disk is encrypted, under qemu-img's option names; what is absent is aes-256, xts, plain64, sha256, 2 seconds. */
export interface LuksOptions {
  readonly 'cipher-alg'?: string | undefined
  readonly 'cipher-mode'?: string | undefined
  readonly 'ivgen-alg'?: string | undefined
  readonly 'ivgen-hash-alg'?: string | undefined
  readonly 'hash-alg'?: string | undefined
  /** Milliseconds that opening a key slot is to take, as text or number. */
  readonly 'iter-time'?: number | string | undefined
}

/** {@link LuksOptions}, checked. */
export interface LuksChoice {
  readonly aesBits: number
  readonly keyBytes: number
  readonly spec: CipherSpec
  readonly hash: HashName
  /** Milliseconds. */
  readonly iterTime: number
}

const usualIterTime = 2000

/**
 * Checks how a new disk is to be encrypted.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED.
 */
export function luksChoice(options: LuksOptions, format: string): LuksChoice {
  const bad = (message: string, hint?: string): ImageError =>
    new ImageError('IMG_BAD_OPTION', message, { format, hint })
  const oneOf = <T extends string>(name: keyof LuksOptions, values: readonly T[], usual: T): T => {
    const value = options[name] ?? usual
    const found = values.find((known) => known === value)
    if (found !== undefined) return found
    throw bad(`Parameter '${name}' does not accept value '${value}'`, `supported: ${values.join(', ')}`)
  }
  const hashes = Object.keys(digestBytes) as HashName[]
  const alg = oneOf('cipher-alg', ['aes-128', 'aes-192', 'aes-256'], 'aes-256')
  const mode = oneOf<CipherMode>('cipher-mode', ['xts', 'cbc'], 'xts')
  const ivgen = oneOf<IvGenerator>('ivgen-alg', ['plain', 'plain64', 'essiv'], 'plain64')
  const ivHash = oneOf<HashName>('ivgen-hash-alg', hashes, 'sha256')
  if (ivgen === 'essiv' && ![16, 24, 32].includes(digestBytes[ivHash])) {
    throw bad(`No AES cipher with key size ${digestBytes[ivHash]} available`)
  }
  const aesBits = Number(alg.slice(4))
  return {
    aesBits,
    keyBytes: keyBytes(mode, aesBits),
    spec: ivgen === 'essiv' ? { mode, ivgen, ivHash } : { mode, ivgen },
    hash: oneOf('hash-alg', hashes, 'sha256'),
    iterTime: iterTimeOf(options['iter-time'], format),
  }
}

/**
 * Milliseconds of an `iter-time`.
 * @throws {ImageError} IMG_BAD_OPTION.
 */
export function iterTimeOf(value: number | string | undefined, format: string): number {
  const time = value === undefined ? usualIterTime : Number(value)
  if (value !== '' && Number.isSafeInteger(time) && time >= 0) return time
  throw new ImageError('IMG_BAD_OPTION', `iter-time ${JSON.stringify(value)} is no number of milliseconds`, {
    format,
  })
}
