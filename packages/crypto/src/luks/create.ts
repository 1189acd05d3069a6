import { ImageError } from '@img/core'
import { type HashName, loadPrimitives, type Primitives } from '../primitives.js'
import { type SectorCipher, sectorCipher } from '../sector-cipher.js'
import {
  type KeySlot,
  keySlots,
  type LuksHeader,
  type LuksPlace,
  materialAlignment,
  materialBytes,
  serialiseLuksHeader,
  usualStripes,
} from './header.js'
import { iterationsFor } from './iterations.js'
import type { LuksChoice } from './options.js'
import { splitKey } from './split.js'

const digestLength = 20
const saltBytes = 32

/** A new header. */
export interface NewLuks {
  readonly header: LuksHeader
  /** Header and key material up to the end of the first slot. What comes after it, up to the payload, is not used yet. */
  readonly bytes: Uint8Array
  /** Bytes up to the payload. */
  readonly length: number
  readonly cipher: SectorCipher
}

/** Random bytes of the host, for keys. */
export function randomBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  // One call gives 64 KiB at most.
  for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536))
  return bytes
}

/** Bytes that a header with its key slots takes, up to the payload: known before anything is made. */
export function luksLength({ keyBytes }: Pick<LuksChoice, 'keyBytes'>): number {
  return materialAlignment + keySlots * slotRoom(keyBytes)
}

function slotRoom(keyBytes: number): number {
  return Math.ceil(materialBytes(usualStripes, keyBytes) / materialAlignment) * materialAlignment
}

/**
 * Makes a header with a new volume key, which the passphrase opens through slot 0. Laid out as QEMU and cryptsetup do.
 * @throws {ImageError} IMG_BAD_OPTION for an empty passphrase.
 */
export async function newLuks(
  choice: LuksChoice,
  passphrase: Uint8Array,
  place: LuksPlace,
): Promise<NewLuks> {
  if (passphrase.length === 0) {
    throw new ImageError('IMG_BAD_OPTION', 'the passphrase is empty', { format: place.format })
  }
  const { keyBytes, hash, iterTime, spec, aesBits } = choice
  const primitives = await loadPrimitives()
  const key = randomBytes(keyBytes)
  const digestSalt = randomBytes(saltBytes)
  // As in QEMU: the key is random and cannot be guessed, so that its digest needs less work than a passphrase.
  const digestIterations = await iterationsFor(primitives, hash, digestLength, iterTime, 1 / 8)
  const first = await newSlot(primitives, choice, passphrase, key, materialAlignment)
  const header: LuksHeader = {
    place,
    aesBits,
    spec,
    hash,
    keyBytes,
    payloadOffset: luksLength(choice),
    digest: await primitives.pbkdf2(hash, key, digestSalt, digestIterations, digestLength),
    digestSalt,
    digestIterations,
    uuid: newUuid(),
    slots: Array.from({ length: keySlots }, (_, slot): KeySlot => {
      if (slot === 0) return first.slot
      const materialOffset = materialAlignment + slot * slotRoom(keyBytes)
      return {
        active: false,
        iterations: 0,
        salt: new Uint8Array(saltBytes),
        materialOffset,
        stripes: usualStripes,
      }
    }),
  }
  const bytes = new Uint8Array(materialAlignment + first.material.length)
  bytes.set(serialiseLuksHeader(header))
  bytes.set(first.material, materialAlignment)
  return { header, bytes, length: header.payloadOffset, cipher: await sectorCipher(spec, key) }
}

/** A slot that opens the volume key, and its key material as it stands in the file. */
export async function newSlot(
  primitives: Primitives,
  { hash, iterTime, spec }: { hash: HashName; iterTime: number; spec: LuksChoice['spec'] },
  passphrase: Uint8Array,
  key: Uint8Array,
  materialOffset: number,
): Promise<{ readonly slot: KeySlot; readonly material: Uint8Array }> {
  const salt = randomBytes(saltBytes)
  const iterations = await iterationsFor(primitives, hash, key.length, iterTime)
  const slotKey = await primitives.pbkdf2(hash, passphrase, salt, iterations, key.length)
  const material = new Uint8Array(materialBytes(usualStripes, key.length))
  material.set(splitKey(primitives, hash, key, randomBytes((usualStripes - 1) * key.length)))
  const cipher = await sectorCipher(spec, slotKey)
  cipher.encrypt(material, 0)
  slotKey.fill(0)
  return { slot: { active: true, iterations, salt, materialOffset, stripes: usualStripes }, material }
}

/** A random UUID, version 4 (RFC 9562, section 5.4). */
function newUuid(): string {
  const bytes = randomBytes(16)
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
