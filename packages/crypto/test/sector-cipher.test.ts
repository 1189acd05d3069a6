import { createCipheriv, createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CbcCipher } from '../src/cbc.js'
import { type CipherSpec, keyBytes, legacyAesCipher, sectorCipher } from '../src/index.js'
import { ivGenerator } from '../src/iv.js'
import { noblePrimitives } from '../src/primitives-noble.js'
import { nodePrimitives } from '../src/primitives-node.js'
import { XtsCipher } from '../src/xts.js'

/** The vector of a sector, made without the code under test. */
function vector({ ivgen, ivHash = 'sha256' }: CipherSpec, key: Uint8Array, sector: number): Uint8Array {
  const iv = Buffer.alloc(16)
  if (ivgen === 'plain') iv.writeUInt32LE(sector % 2 ** 32)
  else iv.writeBigUInt64LE(BigInt(sector))
  if (ivgen !== 'essiv') return iv
  const essivKey = createHash(ivHash).update(key).digest()
  return createCipheriv(`aes-${essivKey.length * 8}-ecb`, essivKey, null).update(iv)
}

/** Each sector by a cipher object of its own. */
function bySector(spec: CipherSpec, key: Uint8Array, bytes: Uint8Array, first: number): Uint8Array {
  const aes = spec.mode === 'xts' ? key.length * 4 : key.length * 8
  const parts: Uint8Array[] = []
  for (let at = 0, sector = first; at < bytes.length; at += 512, sector++) {
    const cipher = createCipheriv(`aes-${aes}-${spec.mode}`, key, vector(spec, key, sector))
    if (spec.mode === 'cbc') cipher.setAutoPadding(false)
    parts.push(cipher.update(bytes.subarray(at, at + 512)))
  }
  return Buffer.concat(parts)
}

const modes = [
  { mode: 'xts', bits: 128 },
  { mode: 'xts', bits: 256 },
  { mode: 'cbc', bits: 128 },
  { mode: 'cbc', bits: 192 },
  { mode: 'cbc', bits: 256 },
] as const
const generators = [
  { ivgen: 'plain' },
  { ivgen: 'plain64' },
  { ivgen: 'essiv', ivHash: 'sha256' },
  { ivgen: 'essiv', ivHash: 'md5' },
] as const

describe('sector ciphers', () => {
  for (const { mode, bits } of modes) {
    for (const generator of generators) {
      it(`aes-${bits} ${mode} ${Object.values(generator).join(':')} as one cipher object a sector`, async () => {
        const spec: CipherSpec = { mode, ...generator }
        const size = keyBytes(mode, bits)
        await fc.assert(
          fc.asyncProperty(
            fc.uint8Array({ minLength: size, maxLength: size }),
            fc.integer({ min: 1, max: 150 * 32 }),
            fc.oneof(fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 2 ** 32 - 70, max: 2 ** 33 })),
            fc.integer({ min: 0, max: 5 }),
            async (key, blocks, sector, shift) => {
              // XTS wants its two keys to differ.
              key[0] = (key[size / 2] as number) ^ 1
              const room = new Uint8Array(blocks * 16 + shift)
              const bytes = room.subarray(shift)
              for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8)) & 0xff
              const plain = bytes.slice()
              const expected = bySector(spec, key, plain, sector)
              const cipher = await sectorCipher(spec, key)
              cipher.encrypt(bytes, sector)
              expect(Buffer.compare(bytes, expected)).toBe(0)
              cipher.decrypt(bytes, sector)
              expect(Buffer.compare(bytes, plain)).toBe(0)
            },
          ),
          { numRuns: 20 },
        )
      })
    }
  }

  it('noble does as Node does', () => {
    const native = nodePrimitives()
    if (native === undefined) throw new Error('no crypto module')
    for (const size of [32, 48, 64]) {
      const key = Uint8Array.from({ length: size }, (_, i) => i * 3)
      const plain = Uint8Array.from({ length: 70 * 512 }, (_, i) => i)
      const [a, b] = [native, noblePrimitives].map((primitives) => {
        const ivs = ivGenerator(primitives, 'essiv', key, 'sha256')
        const xts = new XtsCipher(
          primitives.aes(key.slice(0, size / 2)),
          primitives.aes(key.slice(size / 2)),
          ivs,
        )
        const bytes = plain.slice()
        xts.encrypt(bytes, 5)
        if (size !== 32) return bytes
        const cbc = new CbcCipher(primitives.aes(key), ivs)
        cbc.encrypt(bytes, 9)
        cbc.decrypt(bytes, 9)
        xts.decrypt(bytes, 5)
        expect(Buffer.compare(bytes, plain)).toBe(0)
        cbc.encrypt(bytes, 77)
        return bytes
      })
      expect(Buffer.compare(a as Uint8Array, b as Uint8Array)).toBe(0)
    }
  })

  it('hashes and derives keys alike with Node and with noble', async () => {
    const native = nodePrimitives()
    if (native === undefined) throw new Error('no crypto module')
    const bytes = new TextEncoder().encode('some bytes')
    for (const hash of ['sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'ripemd160', 'md5'] as const) {
      expect(Buffer.from(noblePrimitives.hash(hash, bytes))).toEqual(Buffer.from(native.hash(hash, bytes)))
      for (const password of [bytes, new Uint8Array(0)]) {
        const derived = await noblePrimitives.pbkdf2(hash, password, bytes, 11, 50)
        expect(Buffer.from(derived)).toEqual(await native.pbkdf2(hash, password, bytes, 11, 50))
      }
    }
  })

  it('encrypts each block by itself in ecb', async () => {
    const key = Uint8Array.from({ length: 32 }, (_, i) => i)
    const bytes = Uint8Array.from({ length: 1024 }, (_, i) => i)
    const expected = createCipheriv('aes-256-ecb', key, null).update(bytes)
    const cipher = await sectorCipher({ mode: 'ecb', ivgen: 'plain64' }, key)
    const room = bytes.slice()
    cipher.encrypt(room, 3)
    expect(Buffer.from(room)).toEqual(expected)
    cipher.decrypt(room, 3)
    expect(room).toEqual(bytes)
  })

  it('refuses keys that AES does not have', async () => {
    const unsupported = { code: 'IMG_UNSUPPORTED' }
    await expect(sectorCipher({ mode: 'cbc', ivgen: 'plain64' }, new Uint8Array(64))).rejects.toMatchObject(
      unsupported,
    )
    await expect(sectorCipher({ mode: 'xts', ivgen: 'plain64' }, new Uint8Array(24))).rejects.toMatchObject(
      unsupported,
    )
    const essiv = { mode: 'cbc', ivgen: 'essiv', ivHash: 'sha1' } as const
    await expect(sectorCipher(essiv, new Uint8Array(32))).rejects.toMatchObject(unsupported)
  })

  it('fills a short passphrase of the legacy cipher up with zeros and cuts a long one', async () => {
    for (const passphrase of ['short', 'sixteen byte key', 'longer than sixteen bytes']) {
      const key = Buffer.alloc(16)
      key.write(passphrase)
      const cipher = await legacyAesCipher(new TextEncoder().encode(passphrase))
      const bytes = new Uint8Array(1024).fill(9)
      const expected = bySector({ mode: 'cbc', ivgen: 'plain64' }, key, bytes, 3)
      cipher.encrypt(bytes, 3)
      expect(Buffer.from(bytes)).toEqual(expected)
    }
  })
})
