import { ecb } from '@noble/ciphers/aes.js'
import { md5, ripemd160, sha1 } from '@noble/hashes/legacy.js'
import { pbkdf2Async } from '@noble/hashes/pbkdf2.js'
import { sha224, sha256, sha384, sha512 } from '@noble/hashes/sha2.js'
import type { BlockCipher, HashName, Primitives } from './primitives.js'

const hashes = { md5, ripemd160, sha1, sha224, sha256, sha384, sha512 } as const

/** Names by which Web Crypto derives keys, many times faster than a script can. */
const webHashes: Partial<Record<HashName, string>> = {
  sha1: 'SHA-1',
  sha256: 'SHA-256',
  sha384: 'SHA-384',
  sha512: 'SHA-512',
}

/** The same in any JavaScript engine. */
export const noblePrimitives: Primitives = {
  aes: aesOf,
  hash: (name, bytes) => hashes[name](bytes),
  pbkdf2: async (hash, password, salt, iterations, length) => {
    const web = webHashes[hash]
    const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined
    // Web Crypto is there in secure contexts only, and some engines refuse an empty password.
    if (web === undefined || subtle === undefined || password.length === 0) {
      return pbkdf2Async(hashes[hash], password, salt, { c: iterations, dkLen: length })
    }
    const key = await subtle.importKey('raw', password.slice(), 'PBKDF2', false, ['deriveBits'])
    const params = { name: 'PBKDF2', hash: web, salt: salt.slice(), iterations }
    return new Uint8Array(await subtle.deriveBits(params, key, length * 8))
  },
}

function aesOf(key: Uint8Array): BlockCipher {
  const own = key.slice()
  return {
    encrypt: (blocks) => ecb(own, { disablePadding: true }).encrypt(blocks),
    decrypt: (blocks) => ecb(own, { disablePadding: true }).decrypt(blocks),
  }
}
