import { type IoOptions, type Storage, viewOf } from '@img/core'
import { corrupt, truncated } from './errors.js'
import { encryptionExtension } from './extensions.js'
import type { Header } from './header.js'

/** Bytes of a LUKS1 partition header. LUKS On-Disk Format Specification 1.2.3, figure 1. */
const LUKS_HEADER_BYTES = 592
const KEY_SLOT_AT = 208
const KEY_SLOT_BYTES = 48
const KEY_SLOTS = 8
const KEY_SLOT_ACTIVE = 0x00ac71f3
const SECTOR = 512
const magic = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]

const decoder = new TextDecoder()

function text(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length)
  const end = field.indexOf(0)
  return decoder.decode(end < 0 ? field : field.subarray(0, end))
}

/**
 * The public part of the LUKS1 header inside an image, under the names that qemu-img shows.
 * Specification: Full disk encryption header pointer.
 * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function readLuksInfo(
  storage: Storage,
  header: Header,
  options?: IoOptions,
): Promise<Readonly<Record<string, unknown>>> {
  const { label } = storage
  const pointer = encryptionExtension(header.extensions, label)
  if (pointer === undefined || pointer.length < LUKS_HEADER_BYTES) {
    throw corrupt('encryption header is too short', label, pointer?.offset)
  }
  const { offset } = pointer
  if (offset + LUKS_HEADER_BYTES > storage.size) {
    throw truncated('encryption header ends past the end of the file', label, offset)
  }
  const bytes = new Uint8Array(LUKS_HEADER_BYTES)
  await storage.read(offset, bytes, options)
  const view = viewOf(bytes)
  if (magic.some((byte, index) => bytes[index] !== byte) || view.getUint16(6) !== 1) {
    throw corrupt('encryption header is no LUKS1 header', label, offset)
  }
  const cipher = text(bytes, 8, 32)
  // For example `xts-plain64` or `cbc-essiv:sha256`.
  const [cipherMode = '', generator = ''] = text(bytes, 40, 32).split('-')
  const [ivgen = '', ivgenHash] = generator.split(':')
  // XTS takes two keys of half the length each.
  const keyBits = (view.getUint32(108) * 8) / (cipherMode === 'xts' ? 2 : 1)
  return {
    'ivgen-alg': ivgen,
    'hash-alg': text(bytes, 72, 32),
    'cipher-alg': `${cipher}-${keyBits}`,
    uuid: text(bytes, 168, 40),
    ...(ivgenHash !== undefined && { 'ivgen-hash-alg': ivgenHash }),
    format: 'luks',
    'cipher-mode': cipherMode,
    slots: Array.from({ length: KEY_SLOTS }, (_, slot) => keySlot(view, KEY_SLOT_AT + slot * KEY_SLOT_BYTES)),
    'payload-offset': view.getUint32(104) * SECTOR,
    'master-key-iters': view.getUint32(164),
  }
}

function keySlot(view: DataView, at: number): Readonly<Record<string, unknown>> {
  const active = view.getUint32(at) === KEY_SLOT_ACTIVE
  return {
    active,
    ...(active && { iters: view.getUint32(at + 4) }),
    'key-offset': view.getUint32(at + 40) * SECTOR,
    ...(active && { stripes: view.getUint32(at + 44) }),
  }
}
