import type { IoOptions, Storage } from '@img/core'
import { abortable } from '../abortable.js'
import { loadPrimitives } from '../primitives.js'
import { type SectorCipher, sectorCipher } from '../sector-cipher.js'
import { type LuksHeader, luksError, materialBytes } from './header.js'
import { mergeKey } from './split.js'

/** Iterations of PBKDF2 that a slot made here can have: many seconds of a fast processor. */
export const maxSlotIterations: number = 2 ** 24
/**
 * Iterations that all slots tried together may ask for. A header can say 2^32 for each, and would hold a processor for hours.
 */
export const maxIterations: number = 8 * maxSlotIterations + maxSlotIterations

/** A disk's key, with the slots that it was found in. */
export interface Unlocked {
  /** The volume key. */
  readonly key: Uint8Array
  /** The first slot that the passphrase opened. */
  readonly slot: number
}

/**
 * Finds the volume key by a passphrase: the slots are tried in their order.
 * @throws {ImageError} IMG_WRONG_PASSPHRASE; IMG_UNSUPPORTED where the header asks for too much work; IMG_TRUNCATED.
 */
export async function unlockLuks(
  storage: Storage,
  header: LuksHeader,
  passphrase: Uint8Array,
  options?: IoOptions,
): Promise<Unlocked> {
  const { slots, place } = header
  let budget = maxIterations - header.digestIterations
  let tried = 0
  for (const [slot, { active, iterations }] of slots.entries()) {
    if (!active) continue
    budget -= iterations
    if (budget < 0) throw tooMuchWork(header)
    tried++
    const key = await keyOfSlot(storage, header, slot, passphrase, options)
    if (key !== undefined) return { key, slot }
  }
  const message = tried === 0 ? 'no key slot is in use: the disk cannot be read any more' : undefined
  throw luksError('IMG_WRONG_PASSPHRASE', message ?? 'Invalid password, cannot unlock any keyslot', place)
}

/**
 * The volume key, where a passphrase opens a slot; undefined where it does not.
 * @throws {ImageError} IMG_UNSUPPORTED, IMG_TRUNCATED.
 */
export async function keyOfSlot(
  storage: Storage,
  header: LuksHeader,
  slot: number,
  passphrase: Uint8Array,
  options?: IoOptions,
): Promise<Uint8Array | undefined> {
  const { keyBytes, hash, spec, place } = header
  const { salt, iterations, stripes, materialOffset } = header.slots[slot] as LuksHeader['slots'][number]
  if (iterations + header.digestIterations > maxIterations) throw tooMuchWork(header)
  const primitives = await loadPrimitives()
  const signal = options?.signal
  const slotKey = await abortable(primitives.pbkdf2(hash, passphrase, salt, iterations, keyBytes), signal)
  const material = new Uint8Array(materialBytes(stripes, keyBytes))
  await storage.read(place.offset + materialOffset, material, options)
  const cipher = await sectorCipher(spec, slotKey)
  cipher.decrypt(material, 0)
  const key = mergeKey(primitives, hash, material.subarray(0, stripes * keyBytes), keyBytes)
  const { digest, digestSalt, digestIterations } = header
  const found = await abortable(
    primitives.pbkdf2(hash, key, digestSalt, digestIterations, digest.length),
    signal,
  )
  slotKey.fill(0)
  material.fill(0)
  return found.every((byte, index) => byte === digest[index]) ? key : undefined
}

/** The cipher of a disk's sectors; number 0 is where the payload starts. */
export function luksCipher(header: LuksHeader, key: Uint8Array): Promise<SectorCipher> {
  return sectorCipher(header.spec, key)
}

function tooMuchWork({ place }: LuksHeader): Error {
  return luksError(
    'IMG_UNSUPPORTED',
    `opening the key slots would take more than ${maxIterations} iterations`,
    place,
    208,
    'no usual program asks for so many: the header is damaged, or made to keep a processor busy',
  )
}
