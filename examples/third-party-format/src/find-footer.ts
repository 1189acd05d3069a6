import type { IoOptions, Storage } from '@img/core'
import { fault } from './faults.js'
import { type Footer, isFooter, isIntact, parseFooter } from './footer.js'
import { sectorSize } from './geometry.js'
import { versionText } from './header.js'

/** The footer of a file, and where its copies are. */
export interface FoundFooter {
  readonly footer: Footer
  /** Byte offset of the footer at the end, where there is a good one. */
  readonly endOffset: number | undefined
  /** The copy at the start is good. Fixed disks have none. */
  readonly copy: boolean
}

/**
 * Finds the footer: at the end, and copied to the start of dynamic and differencing disks.
 * VHD specification, "Hard Disk Footer Format" and "Implementing a Dynamic Disk".
 *
 * A good footer of a fixed disk at the end comes first: the guest of such a disk can write the start of the file. Otherwise the
 * copy at the start counts, as in QEMU, and the footer at the end where that is damaged.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE.
 */
export async function findFooter(
  storage: Storage,
  options: IoOptions & { warn(message: string): void },
): Promise<FoundFooter> {
  if (storage.size < sectorSize) {
    throw fault('IMG_NOT_THIS_FORMAT', storage, `a file of ${storage.size} bytes is no VHD`)
  }
  const head = new Uint8Array(sectorSize)
  const last = new Uint8Array(sectorSize)
  await storage.read(0, head, options)
  await storage.read(storage.size - sectorSize, last, options)
  const tail = alignedTail(last)
  const endOffset = isIntact(tail.bytes) ? storage.size - tail.length : undefined
  const end = endOffset === undefined ? undefined : checked(parseFooter(tail.bytes), storage)
  if (end?.type === 'fixed') return { footer: end, endOffset, copy: false }
  if (isIntact(head)) {
    const footer = checked(parseFooter(head), storage)
    if (footer.type === 'fixed') {
      throw fault('IMG_CORRUPT', storage, 'a fixed disk whose footer at the end is lost or damaged')
    }
    if (end === undefined)
      options.warn(`${storage.label}: the footer at the end is damaged; its copy is used`)
    return { footer, endOffset, copy: true }
  }
  if (end !== undefined) {
    options.warn(`${storage.label}: the copy of the footer at the start is damaged; the footer is used`)
    return { footer: end, endOffset, copy: false }
  }
  if (isFooter(head) || isFooter(tail.bytes)) {
    throw fault('IMG_CORRUPT', storage, 'the checksum of the footer is wrong', {
      offset: isFooter(head) ? 0 : storage.size - tail.length,
      hint: 'the file is damaged, or was changed by a program that left the checksum as it was',
    })
  }
  throw fault('IMG_NOT_THIS_FORMAT', storage, 'there is no VHD footer')
}

/** Before Virtual PC 2004 footers had 511 bytes; the last one is taken as zero. */
function alignedTail(last: Uint8Array): { readonly bytes: Uint8Array; readonly length: number } {
  const short = last.subarray(1)
  if (isFooter(last) || !isFooter(short)) return { bytes: last, length: sectorSize }
  const bytes = new Uint8Array(sectorSize)
  bytes.set(short)
  return { bytes, length: short.length }
}

function checked(footer: Footer, storage: Storage): Footer {
  if (Math.floor(footer.version / 0x1_0000) !== 1) {
    throw fault('IMG_UNSUPPORTED', storage, `VHD version ${versionText(footer.version)} is not known`)
  }
  if (footer.type === undefined) {
    throw fault('IMG_UNSUPPORTED', storage, `disks of type ${footer.typeCode} are not supported`, {
      hint: 'known are 2 (fixed), 3 (dynamic) and 4 (differencing)',
    })
  }
  return footer
}
