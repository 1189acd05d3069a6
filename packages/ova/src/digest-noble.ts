import { sha1 } from '@noble/hashes/legacy.js'
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { Hasher } from './digest.js'
import type { DigestName } from './manifest.js'

const hashes = { SHA1: sha1, SHA256: sha256, SHA384: sha384, SHA512: sha512 } as const

/** A digest in JavaScript, for hosts that have none of their own. */
export function nobleHasher(name: DigestName): Hasher {
  const hash = hashes[name].create()
  return {
    update(bytes) {
      hash.update(bytes)
    },
    digest: () => bytesToHex(hash.digest()),
  }
}
