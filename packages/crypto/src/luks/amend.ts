import { type AmendContext, ImageError, type WritableStorage } from '@img/core'
import { loadPrimitives } from '../primitives.js'
import { newSlot, randomBytes } from './create.js'
import {
  type KeySlot,
  keySlots,
  type LuksHeader,
  materialBytes,
  serialiseSlot,
  slotOffset,
  usualStripes,
} from './header.js'
import { iterTimeOf } from './options.js'
import { keyOfSlot } from './unlock.js'

/** What is to become of key slots, under qemu-img's option names without `encrypt.`. Secrets: ids. */
export interface LuksAmendOptions {
  readonly state?: string | undefined
  readonly keyslot?: number | undefined
  readonly 'new-secret'?: string | undefined
  readonly 'old-secret'?: string | undefined
  readonly 'iter-time'?: number | undefined
}

/**
 * Adds a key slot (`state` active) or erases some (inactive), by QEMU's rules. Each is durable before the next: key material is
 * written before the header says that it is there, and destroyed before the header says that it is gone.
 * @param key the volume key
 * @returns the header as it is now
 * @throws {ImageError} IMG_BAD_OPTION, IMG_SECRET_MISSING, IMG_WRONG_PASSPHRASE; as writing.
 */
export async function amendLuks(
  storage: WritableStorage,
  header: LuksHeader,
  key: Uint8Array,
  options: LuksAmendOptions,
  context: AmendContext,
): Promise<LuksHeader> {
  const { state, keyslot } = options
  if (state !== 'active' && state !== 'inactive') {
    throw bad(
      header,
      state === undefined
        ? "Parameter 'state' is missing"
        : `Parameter 'state' does not accept value '${state}'`,
    )
  }
  if (keyslot !== undefined && !(keyslot >= 0 && keyslot < keySlots)) {
    throw bad(header, `Invalid keyslot ${keyslot} specified, must be between 0 and ${keySlots - 1}`)
  }
  return state === 'active'
    ? addSlot(storage, header, key, options, context)
    : eraseSlots(storage, header, options, context)
}

function bad({ place }: LuksHeader, message: string, hint?: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: place.format, source: place.source, hint })
}

const force = 'force does it all the same'

async function addSlot(
  storage: WritableStorage,
  header: LuksHeader,
  key: Uint8Array,
  options: LuksAmendOptions,
  context: AmendContext,
): Promise<LuksHeader> {
  const { place, slots } = header
  const secret = options['new-secret']
  if (secret === undefined) throw bad(header, "'new-secret' is required to activate a keyslot")
  if (options['old-secret'] !== undefined) {
    throw bad(header, "'old-secret' must not be given when activating keyslots")
  }
  const iterTime = iterTimeOf(options['iter-time'], place.format)
  const index = options.keyslot ?? slots.findIndex(({ active }) => !active)
  const old = slots[index]
  if (old === undefined) throw bad(header, "Can't add a keyslot - all keyslots are in use")
  if (old.active && !context.force) {
    throw bad(header, `Refusing to overwrite active keyslot ${index} - please erase it first`, force)
  }
  // The room of a slot that was made with fewer stripes does not hold more.
  if (old.stripes < usualStripes) throw bad(header, `keyslot ${index} has no room for a key`)
  const passphrase = await context.secret(secret)
  if (passphrase.length === 0) throw bad(header, 'the new passphrase is empty')
  const primitives = await loadPrimitives()
  const choice = { hash: header.hash, spec: header.spec, iterTime }
  const { slot, material } = await newSlot(primitives, choice, passphrase, key, old.materialOffset)
  await storage.write(place.offset + slot.materialOffset, material, context)
  await storage.flush(context)
  return writeSlot(storage, header, index, slot, context)
}

async function eraseSlots(
  storage: WritableStorage,
  header: LuksHeader,
  options: LuksAmendOptions,
  context: AmendContext,
): Promise<LuksHeader> {
  if (options['new-secret'] !== undefined) {
    throw bad(header, "'new-secret' must not be given when erasing keyslots")
  }
  if (options['iter-time'] !== undefined) {
    throw bad(header, "'iter-time' must not be given when erasing keyslots")
  }
  let now = header
  for (const index of await slotsToErase(storage, header, options, context)) {
    now = await eraseSlot(storage, now, index, context)
  }
  return now
}

async function slotsToErase(
  storage: WritableStorage,
  header: LuksHeader,
  options: LuksAmendOptions,
  context: AmendContext,
): Promise<number[]> {
  const { slots } = header
  const { keyslot, 'old-secret': secret } = options
  const active = slots.flatMap((slot, index) => (slot.active ? [index] : []))
  if (secret === undefined) {
    if (keyslot === undefined) {
      throw bad(
        header,
        'To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given',
      )
    }
    const erased = slots[keyslot]?.active !== true
    if (erased && !context.force) throw bad(header, `Given keyslot ${keyslot} is already erased (inactive)`)
    if (!erased && active.length === 1 && !context.force) {
      const message = `Attempt to erase the only active keyslot ${keyslot} which will erase all the data in the image irreversibly`
      throw bad(header, `${message} - refusing operation`, force)
    }
    return [keyslot]
  }
  const passphrase = await context.secret(secret)
  const matching: number[] = []
  for (const index of active) {
    if (keyslot !== undefined && keyslot !== index) continue
    const key = await keyOfSlot(storage, header, index, passphrase, context)
    if (key !== undefined) matching.push(index)
  }
  if (matching.length === 0) {
    throw new ImageError(
      'IMG_WRONG_PASSPHRASE',
      'No keyslots match given (old) password for erase operation',
      {
        format: header.place.format,
        source: header.place.source,
      },
    )
  }
  if (matching.length === active.length && !context.force) {
    const message =
      'All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly'
    throw bad(header, `${message} - refusing operation`, force)
  }
  return matching
}

async function eraseSlot(
  storage: WritableStorage,
  header: LuksHeader,
  index: number,
  context: AmendContext,
): Promise<LuksHeader> {
  const { place, keyBytes } = header
  const old = header.slots[index] as KeySlot
  const garbage = randomBytes(materialBytes(old.stripes, keyBytes))
  await storage.write(place.offset + old.materialOffset, garbage, context)
  await storage.flush(context)
  const slot: KeySlot = { ...old, active: false, iterations: 0, salt: new Uint8Array(old.salt.length) }
  return writeSlot(storage, header, index, slot, context)
}

async function writeSlot(
  storage: WritableStorage,
  header: LuksHeader,
  index: number,
  slot: KeySlot,
  context: AmendContext,
): Promise<LuksHeader> {
  await storage.write(header.place.offset + slotOffset(index), serialiseSlot(slot), context)
  await storage.flush(context)
  return { ...header, slots: header.slots.map((other, at) => (at === index ? slot : other)) }
}
