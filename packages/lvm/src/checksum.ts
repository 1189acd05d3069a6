/** Table of a reflected CRC-32 with this polynomial. */
function table(polynomial: number): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, index) => {
    let value = index
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1
    return value
  })
}

function crc(lookup: Uint32Array, bytes: Uint8Array, initial: number): number {
  let value = initial
  for (const byte of bytes) value = (lookup[(value ^ byte) & 255] as number) ^ (value >>> 8)
  return value >>> 0
}

const ieee = table(0xedb88320)
const castagnoli = table(0x82f63b78)

/**
 * Checksum of LVM2's labels and metadata: CRC-32 that starts at 0xf597a6cf and is not inverted.
 * Source: lvm2 lib/misc/crc.c, INITIAL_CRC.
 */
export function lvmChecksum(bytes: Uint8Array, initial = 0xf597a6cf): number {
  return crc(ieee, bytes, initial)
}

/**
 * Checksum of a block of device-mapper metadata: CRC-32C, not inverted, and mixed with a number that tells kinds of
 * blocks apart. Source: Linux drivers/md/persistent-data/dm-block-manager.c, dm_bm_checksum.
 */
export function blockChecksum(bytes: Uint8Array, kind: number): number {
  return (crc(castagnoli, bytes, 0xffffffff) ^ kind) >>> 0
}
