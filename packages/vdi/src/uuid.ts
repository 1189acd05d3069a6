/** A UUID that says: none. */
export const nullUuid = '00000000-0000-0000-0000-000000000000'

/** Where each byte of the text stands in a file: the first three fields are little-endian numbers. */
const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]

/** Reads a UUID as VirtualBox and QEMU print it, in lower case. */
export function readUuid(bytes: Uint8Array, at: number): string {
  const digits = order.map((index) => (bytes[at + index] as number).toString(16).padStart(2, '0')).join('')
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** The 16 bytes of a UUID as they stand in a file. */
export function uuidBytes(uuid: string): Uint8Array {
  const digits = uuid.replaceAll('-', '')
  const bytes = new Uint8Array(16)
  for (const [i, index] of order.entries()) {
    bytes[index] = Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16)
  }
  return bytes
}

/** A new random UUID, version 4. */
export function newUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[7] = ((bytes[7] as number) % 16) + 0x40
  bytes[8] = ((bytes[8] as number) % 64) + 0x80
  return readUuid(bytes, 0)
}
