import { viewOf } from '@img/core'

/** Characters as bytes, one each: cookies, creator and platform codes. */
export function writeTag(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i)
}

/** Four bytes as characters. */
export function tag(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4))
}

/** True where the bytes begin with these characters. */
export function startsWith(bytes: Uint8Array, text: string): boolean {
  if (bytes.length < text.length) return false
  for (let i = 0; i < text.length; i++) if (bytes[i] !== text.charCodeAt(i)) return false
  return true
}

/**
 * One's complement of the sum of all bytes, those of the checksum field itself left out.
 * VHD specification, "Hard Disk Footer Format", Checksum; the dynamic header has the same.
 */
export function checksum(bytes: Uint8Array, at: number): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i++) if (i < at || i >= at + 4) sum += bytes[i] as number
  return ~sum >>> 0
}

/** True where the checksum field at `at` is that of the bytes. */
export function checksumHolds(bytes: Uint8Array, at: number): boolean {
  return viewOf(bytes).getUint32(at) === checksum(bytes, at)
}

/** A UUID as text, in the order of its bytes. */
export function uuidText(uuid: Uint8Array): string {
  const hex = Array.from(uuid, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** A random UUID, version 4. */
export function newUuid(): Uint8Array {
  const uuid = crypto.getRandomValues(new Uint8Array(16))
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x40
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80
  return uuid
}

/** UTF-16 text up to its first NUL. */
export function utf16Text(bytes: Uint8Array, littleEndian: boolean): string {
  const view = viewOf(bytes)
  let text = ''
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    const unit = view.getUint16(at, littleEndian)
    if (unit === 0) break
    text += String.fromCharCode(unit)
  }
  return text
}

/** Text as UTF-16, without a NUL. */
export function utf16Bytes(text: string, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(text.length * 2)
  const view = viewOf(bytes)
  for (let i = 0; i < text.length; i++) view.setUint16(i * 2, text.charCodeAt(i), littleEndian)
  return bytes
}
