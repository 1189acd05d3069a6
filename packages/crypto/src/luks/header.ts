import { ImageError, type ImageErrorCode, type IoOptions, type Storage, viewOf } from '@img/core'
import { digestBytes, type HashName } from '../primitives.js'
import { type CipherSpec, keyBytes } from '../sector-cipher.js'
import { sectorBytes } from '../words.js'

/** Bytes of the header with its key slots. LUKS On-Disk Format Specification 1.2.3, figure 1. */
export const luksHeaderBytes = 592
/** Key slots of every header. */
export const keySlots = 8
/** Stripes over which a key is spread, in all that is written here. Specification, section 2.4. */
export const usualStripes = 4000
/** Byte of the first key slot, and bytes of each. Specification, figure 2. */
const slotAt = 208
const slotBytes = 48
const slotActive = 0x00ac71f3
const slotInactive = 0x0000dead
/** Key material starts at multiples of this, and not before it. */
export const materialAlignment = 4096
/** Most stripes accepted: what an opening reads must not depend on whoever made the header. */
const maxStripes = 65536

/** For messages: where a header was found. */
export interface LuksPlace {
  readonly format: string
  readonly source: string
  /** Byte of the storage at which the header starts. */
  readonly offset: number
}

/** A key slot. Specification, figure 2. */
export interface KeySlot {
  readonly active: boolean
  /** Of PBKDF2. */
  readonly iterations: number
  /** 32 bytes. */
  readonly salt: Uint8Array
  /** Bytes from the start of the header. */
  readonly materialOffset: number
  readonly stripes: number
}

/** A LUKS1 header. */
export interface LuksHeader {
  readonly place: LuksPlace
  /** 128, 192 or 256. */
  readonly aesBits: number
  readonly spec: CipherSpec
  readonly hash: HashName
  /** Bytes of the volume key. */
  readonly keyBytes: number
  /** Bytes from the start of the header. */
  readonly payloadOffset: number
  /** Digest of the volume key, 20 bytes, its salt, 32 bytes, and the iterations of PBKDF2 that made it. */
  readonly digest: Uint8Array
  readonly digestSalt: Uint8Array
  readonly digestIterations: number
  readonly uuid: string
  readonly slots: readonly KeySlot[]
}

const magic = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]

/** True where bytes start with the magic of LUKS, whatever its version. */
export function isLuks(bytes: Uint8Array): boolean {
  return magic.every((byte, index) => bytes[index] === byte)
}

/** An error about a header. `at`: bytes from its start. */
export function luksError(
  code: ImageErrorCode,
  message: string,
  { format, source, offset }: LuksPlace,
  at?: number,
  hint?: string,
): ImageError {
  return new ImageError(code, message, {
    format,
    source,
    ...(at !== undefined && { offset: offset + at }),
    hint,
  })
}

/**
 * Reads and checks a header.
 * @param length bytes that are the header's, up to where the disk's may start
 * @throws {ImageError} as {@link parseLuksHeader}; IMG_TRUNCATED.
 */
export async function readLuksHeader(
  storage: Storage,
  place: LuksPlace,
  length: number,
  options?: IoOptions,
): Promise<LuksHeader> {
  const { offset } = place
  if (length < luksHeaderBytes || offset + luksHeaderBytes > storage.size) {
    throw luksError('IMG_TRUNCATED', 'the LUKS header is cut short', place, 0)
  }
  const bytes = new Uint8Array(luksHeaderBytes)
  await storage.read(offset, bytes, options)
  return parseLuksHeader(bytes, place)
}

/**
 * Parses a header and checks all that does not need a passphrase.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT; IMG_UNSUPPORTED for another version, cipher or hash; IMG_CORRUPT.
 */
export function parseLuksHeader(bytes: Uint8Array, place: LuksPlace): LuksHeader {
  const view = viewOf(bytes)
  if (!isLuks(bytes)) throw luksError('IMG_NOT_THIS_FORMAT', 'Volume is not in LUKS format', place, 0)
  const version = view.getUint16(6)
  if (version !== 1) {
    const hint = version === 2 ? 'LUKS2 is not supported: copy the disk with cryptsetup open' : undefined
    throw luksError('IMG_UNSUPPORTED', `LUKS version ${version} is not supported`, place, 6, hint)
  }
  const keyLength = view.getUint32(108)
  const { aesBits, spec } = parseCipher(bytes, keyLength, place)
  const header: LuksHeader = {
    place,
    aesBits,
    spec,
    hash: parseHash(field(bytes, 72, 32, 'hash', place), place, 72),
    keyBytes: keyLength,
    payloadOffset: view.getUint32(104) * sectorBytes,
    digest: bytes.slice(112, 132),
    digestSalt: bytes.slice(132, 164),
    digestIterations: view.getUint32(164),
    uuid: field(bytes, 168, 40, 'UUID', place),
    slots: Array.from({ length: keySlots }, (_, slot) => parseSlot(bytes, slot, place)),
  }
  if (header.digestIterations === 0) {
    throw luksError('IMG_CORRUPT', 'LUKS key iteration count is zero', place, 164)
  }
  checkSlots(header)
  return header
}

function field(bytes: Uint8Array, at: number, length: number, name: string, place: LuksPlace): string {
  const whole = bytes.subarray(at, at + length)
  const end = whole.indexOf(0)
  if (end < 0) throw luksError('IMG_CORRUPT', `LUKS header ${name} is not NUL terminated`, place, at)
  return new TextDecoder().decode(whole.subarray(0, end))
}

/** Cipher name, mode such as `xts-plain64` or `cbc-essiv:sha256`, and bytes of the key. Specification, section 3.3. */
function parseCipher(
  bytes: Uint8Array,
  keyLength: number,
  place: LuksPlace,
): Pick<LuksHeader, 'aesBits' | 'spec'> {
  const cipher = field(bytes, 8, 32, 'cipher name', place)
  const named = field(bytes, 40, 32, 'cipher mode', place)
  const [mode, generator = ''] = named.split('-')
  const [ivgen, ivHash] = generator.split(':')
  const refuse = (what: string, at: number): ImageError =>
    luksError(
      'IMG_UNSUPPORTED',
      what,
      place,
      at,
      'supported: aes with 128, 192 or 256 bits, in the modes xts, cbc and ecb',
    )
  if (cipher !== 'aes') throw refuse(`cipher ${JSON.stringify(cipher)} is not supported`, 8)
  if (mode !== 'xts' && mode !== 'cbc' && mode !== 'ecb')
    throw refuse(`cipher mode ${JSON.stringify(named)} is not supported`, 40)
  if (ivgen !== 'plain' && ivgen !== 'plain64' && ivgen !== 'essiv') {
    throw refuse(`IV generator ${JSON.stringify(generator)} is not supported`, 40)
  }
  const aesBits = [128, 192, 256].find((bits) => keyBytes(mode, bits) === keyLength)
  if (aesBits === undefined) {
    throw luksError('IMG_CORRUPT', `a key of ${keyLength} bytes does not fit aes-${mode}`, place, 108)
  }
  if (ivgen !== 'essiv') return { aesBits, spec: { mode, ivgen } }
  if (ivHash === undefined)
    throw luksError('IMG_CORRUPT', 'Missing IV generator hash specification', place, 40)
  return { aesBits, spec: { mode, ivgen, ivHash: parseHash(ivHash, place, 40) } }
}

function parseHash(name: string, place: LuksPlace, at: number): HashName {
  if (Object.hasOwn(digestBytes, name)) return name as HashName
  throw luksError('IMG_UNSUPPORTED', `hash ${JSON.stringify(name)} is not supported`, place, at)
}

function parseSlot(bytes: Uint8Array, slot: number, place: LuksPlace): KeySlot {
  const at = slotAt + slot * slotBytes
  const view = viewOf(bytes)
  const state = view.getUint32(at)
  if (state !== slotActive && state !== slotInactive) {
    throw luksError('IMG_CORRUPT', `Keyslot ${slot} state (active/disable) is corrupted`, place, at)
  }
  return {
    active: state === slotActive,
    iterations: view.getUint32(at + 4),
    salt: bytes.slice(at + 8, at + 40),
    materialOffset: view.getUint32(at + 40) * sectorBytes,
    stripes: view.getUint32(at + 44),
  }
}

/** Bytes that the key material of a slot takes: whole sectors. */
export function materialBytes(stripes: number, key: number): number {
  return Math.ceil((stripes * key) / sectorBytes) * sectorBytes
}

function checkSlots(header: LuksHeader): void {
  const { place, payloadOffset, slots } = header
  if (payloadOffset === 0) {
    throw luksError(
      'IMG_UNSUPPORTED',
      'a LUKS header that is kept apart from its disk is not supported',
      place,
      104,
    )
  }
  slots.forEach((slot, index) => {
    const at = slotAt + index * slotBytes
    if (slot.stripes === 0 || slot.stripes > maxStripes) {
      throw luksError(
        'IMG_CORRUPT',
        `Keyslot ${index} is corrupted (stripes ${slot.stripes})`,
        place,
        at + 44,
      )
    }
    if (slot.active && slot.iterations === 0) {
      throw luksError('IMG_CORRUPT', `Keyslot ${index} iteration count is zero`, place, at + 4)
    }
    const start = slot.materialOffset
    const end = start + materialBytes(slot.stripes, header.keyBytes)
    if (start < luksHeaderBytes) {
      throw luksError('IMG_CORRUPT', `Keyslot ${index} is overlapping with the LUKS header`, place, at + 40)
    }
    if (end > payloadOffset) {
      throw luksError(
        'IMG_CORRUPT',
        `Keyslot ${index} is overlapping with the encrypted payload`,
        place,
        at + 40,
      )
    }
    slots.slice(0, index).forEach((other, before) => {
      const otherEnd = other.materialOffset + materialBytes(other.stripes, header.keyBytes)
      if (start < otherEnd && other.materialOffset < end) {
        const message = `Keyslots ${before} and ${index} are overlapping in the header`
        throw luksError('IMG_CORRUPT', message, place, at + 40)
      }
    })
  })
}

/** A slot as it stands in a header. */
export function serialiseSlot(slot: KeySlot): Uint8Array {
  const bytes = new Uint8Array(slotBytes)
  const view = viewOf(bytes)
  view.setUint32(0, slot.active ? slotActive : slotInactive)
  view.setUint32(4, slot.iterations)
  bytes.set(slot.salt, 8)
  view.setUint32(40, slot.materialOffset / sectorBytes)
  view.setUint32(44, slot.stripes)
  return bytes
}

/** Byte of a slot from the start of the header. */
export function slotOffset(slot: number): number {
  return slotAt + slot * slotBytes
}

/** A header as it stands in a file. */
export function serialiseLuksHeader(header: LuksHeader): Uint8Array {
  const { spec } = header
  const bytes = new Uint8Array(luksHeaderBytes)
  const view = viewOf(bytes)
  const put = (text: string, at: number): void => bytes.set(new TextEncoder().encode(text), at)
  bytes.set(magic)
  view.setUint16(6, 1)
  put('aes', 8)
  put(`${spec.mode}-${spec.ivgen}${spec.ivHash === undefined ? '' : `:${spec.ivHash}`}`, 40)
  put(header.hash, 72)
  view.setUint32(104, header.payloadOffset / sectorBytes)
  view.setUint32(108, header.keyBytes)
  bytes.set(header.digest, 112)
  bytes.set(header.digestSalt, 132)
  view.setUint32(164, header.digestIterations)
  put(header.uuid, 168)
  header.slots.forEach((slot, index) => {
    bytes.set(serialiseSlot(slot), slotOffset(index))
  })
  return bytes
}

/** What a header tells of itself, under the names and in the order of qemu-img 7.2. */
export function luksInfo(header: LuksHeader): Readonly<Record<string, unknown>> {
  const { spec, slots } = header
  return {
    'ivgen-alg': spec.ivgen,
    'hash-alg': header.hash,
    'cipher-alg': `aes-${header.aesBits}`,
    uuid: header.uuid,
    ...(spec.ivHash !== undefined && { 'ivgen-hash-alg': spec.ivHash }),
    'cipher-mode': spec.mode,
    slots: slots.map(({ active, iterations, materialOffset, stripes }) => ({
      active,
      ...(active && { iters: iterations }),
      'key-offset': materialOffset,
      ...(active && { stripes }),
    })),
    'payload-offset': header.payloadOffset,
    'master-key-iters': header.digestIterations,
  }
}
