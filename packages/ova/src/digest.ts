import type { IoOptions, Storage } from '@img/core'
import type { DigestName } from './manifest.js'

/** A digest being computed over bytes in order. */
export interface Hasher {
  update(bytes: Uint8Array): void
  /** The digest in lower-case hexadecimal digits. Called once. */
  digest(): string
}

/** Bytes read at a time. */
const STEP: number = 1024 * 1024

/** The part of Node's `crypto` module used here. Declared here because this package has no Node types. */
interface NodeCrypto {
  createHash(algorithm: string): { update(bytes: Uint8Array): unknown; digest(encoding: 'hex'): string }
}

interface HostProcess {
  readonly getBuiltinModule?: (id: string) => unknown
}

/** Starts a digest: Node's own, several times faster, or else one in JavaScript. WebCrypto has none that takes pieces. */
export async function createHasher(name: DigestName): Promise<Hasher> {
  const host = (globalThis as { process?: HostProcess }).process
  const crypto = host?.getBuiltinModule?.('node:crypto') as Partial<NodeCrypto> | undefined
  if (typeof crypto?.createHash === 'function') {
    const hash = crypto.createHash(name.toLowerCase())
    return {
      update(bytes) {
        hash.update(bytes)
      },
      digest: () => hash.digest('hex'),
    }
  }
  return (await import('./digest-noble.js')).nobleHasher(name)
}

/** The digest of a part of a storage. `onProgress` is told how many bytes have been read. */
export async function digestOf(
  storage: Storage,
  name: DigestName,
  options: IoOptions & { readonly onProgress?: ((done: number) => void) | undefined } = {},
): Promise<string> {
  const hasher = await createHasher(name)
  const { size } = storage
  const buffer = new Uint8Array(Math.min(STEP, size))
  for (let at = 0; at < size; at += STEP) {
    options.signal?.throwIfAborted()
    const part = buffer.subarray(0, Math.min(STEP, size - at))
    await storage.read(at, part, options)
    hasher.update(part)
    options.onProgress?.(at + part.length)
  }
  return hasher.digest()
}
