import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'

/**
 * Writes a raw disk of 4 MiB and some sectors: text, incompressible bytes, zeros between them and at the end.
 * @param {string} path
 */
export function writeSampleDisk(path) {
  const disk = Buffer.alloc((4 << 20) + 3 * 512)
  disk.write('the same line again and again\n'.repeat(4000), 1 << 20)
  let block = createHash('sha256').update('sample').digest()
  for (let at = 2 << 20; at < (2 << 20) + (300 << 10); at += block.length) {
    block.copy(disk, at)
    block = createHash('sha256').update(block).digest()
  }
  disk.write('the last sector', disk.length - 512)
  writeFileSync(path, disk)
}

/**
 * SHA-256 of a file, in hex.
 * @param {string} path
 */
export function sha256(path) {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}
