import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'

/** Bytes that look like a disk: text, incompressible parts and zeros, the same for the same seed. */
export function diskBytes(size: number, seed: string): Uint8Array {
  const bytes = new Uint8Array(size)
  for (let at = 0, i = 0; at < size; at += 8192, i++) {
    const part = bytes.subarray(at, Math.min(size, at + 8192))
    const block = createHash('sha256').update(`${seed}:${i}`).digest()
    const kind = (block[0] as number) % 4
    if (kind === 0) continue
    if (kind === 1) part.fill(`line ${i} of ${seed}\n`.charCodeAt(i % 8))
    else
      for (let j = 0; j < part.length; j += 32)
        part.set(
          createHash('sha256')
            .update(`${seed}${i}/${j}`)
            .digest()
            .subarray(0, Math.min(32, part.length - j)),
          j,
        )
  }
  return bytes
}

/** Writes such a disk. @returns its bytes. */
export function makeDisk(path: string, size: number, seed = 'disk'): Uint8Array {
  const bytes = diskBytes(size, seed)
  writeFileSync(path, bytes)
  return bytes
}

/** Checksum of a file or of bytes. */
export function sha256(of: string | Uint8Array): string {
  return createHash('sha256')
    .update(typeof of === 'string' ? readFileSync(of) : of)
    .digest('hex')
}
