import { type NodeCrypto, nodeCrypto } from './host.js'
import type { BlockCipher, BlockTransform, Primitives } from './primitives.js'

/** Node's own cryptography; undefined elsewhere. */
export function nodePrimitives(): Primitives | undefined {
  const crypto = nodeCrypto()
  return crypto && primitivesOf(crypto)
}

function primitivesOf(crypto: NodeCrypto): Primitives {
  return {
    aes: (key) => aesOf(crypto, key),
    hash: (name, bytes) =>
      crypto.hash?.(name, bytes, 'buffer') ?? crypto.createHash(name).update(bytes).digest(),
    pbkdf2: (hash, password, salt, iterations, length) =>
      new Promise((resolve, reject) => {
        crypto.pbkdf2(password, salt, iterations, length, hash, (error, key) => {
          if (error) reject(error)
          else resolve(key)
        })
      }),
  }
}

/** One cipher object for all calls: without padding and chaining, every call stands for itself. */
function aesOf(crypto: NodeCrypto, key: Uint8Array): BlockCipher {
  const algorithm = `aes-${key.length * 8}-ecb`
  let encrypt: BlockTransform | undefined
  let decrypt: BlockTransform | undefined
  return {
    encrypt(blocks) {
      if (encrypt === undefined) {
        const cipher = crypto.createCipheriv(algorithm, key, null)
        cipher.setAutoPadding(false)
        encrypt = (input) => cipher.update(input)
      }
      return encrypt(blocks)
    },
    decrypt(blocks) {
      if (decrypt === undefined) {
        const cipher = crypto.createDecipheriv(algorithm, key, null)
        cipher.setAutoPadding(false)
        decrypt = (input) => cipher.update(input)
      }
      return decrypt(blocks)
    },
  }
}
