import { createHash } from 'node:crypto'
import { type DiskImage, memoryStorage, type OpenOptions, openImage, referencesFrom } from '@img/core'
import { lvm } from '../../src/format.js'

/** Opens a volume on disks in memory; the first is the image, the others are named by options. */
export async function openVolume(
  disks: readonly Uint8Array[],
  lv?: string,
  extra: OpenOptions = {},
): Promise<DiskImage> {
  const [first, ...others] = disks
  const names = others.map((_, index) => `disk${index + 1}`)
  const references = referencesFrom(
    Object.fromEntries(names.map((name, at) => [name, () => memoryStorage(others[at] as Uint8Array)])),
  )
  return openImage(memoryStorage(first as Uint8Array), {
    format: lvm,
    references,
    options: { ...(lv !== undefined && { lv }), ...(names.length > 0 && { pv: names.join(',') }) },
    ...extra,
  })
}

/** SHA-256 of all that a disk holds. */
export async function digest(image: DiskImage): Promise<string> {
  const hash = createHash('sha256')
  const part = new Uint8Array(1024 * 1024)
  for (let at = 0; at < image.size; at += part.length) {
    const bytes = part.subarray(0, Math.min(part.length, image.size - at))
    await image.read(at, bytes)
    hash.update(bytes)
  }
  return hash.digest('hex')
}
