import { nodePrimitives } from './primitives-node.js'

/** Hashes that LUKS headers name. */
export type HashName = 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'ripemd160' | 'md5'

/** Bytes of each hash's digest. */
export const digestBytes: Readonly<Record<HashName, number>> = {
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
  md5: 16,
}

/** A block cipher applied to each block of 16 bytes by itself. The answer may be the same memory at the next call. */
export type BlockTransform = (blocks: Uint8Array) => Uint8Array

/** One key of a block cipher. */
export interface BlockCipher {
  readonly encrypt: BlockTransform
  readonly decrypt: BlockTransform
}

/** The cryptographic functions that the rest is built from: Node's own, or those of the noble packages. */
export interface Primitives {
  /** AES with a key of 16, 24 or 32 bytes. */
  aes(key: Uint8Array): BlockCipher
  hash(name: HashName, bytes: Uint8Array): Uint8Array
  /** PBKDF2 with HMAC (RFC 8018, section 5.2), without holding up this thread where the host can. */
  pbkdf2(
    hash: HashName,
    password: Uint8Array,
    salt: Uint8Array,
    iterations: number,
    length: number,
  ): Promise<Uint8Array>
}

let loaded: Promise<Primitives> | undefined

/** The primitives of this host, loaded once. */
export function loadPrimitives(): Promise<Primitives> {
  loaded ??= load()
  return loaded
}

async function load(): Promise<Primitives> {
  const native = nodePrimitives()
  if (native !== undefined) return native
  const { noblePrimitives } = await import('./primitives-noble.js')
  return noblePrimitives
}
