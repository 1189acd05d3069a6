import { viewOf } from '../bytes.js'

/** Bytes of a sector of an MBR, and of the first sector of a disk. */
export const mbrSector = 512

/** Type of the entry that says: there is a GPT. */
export const gptProtective = 0xee

/** Types of the entry that holds logical partitions. */
export const extendedTypes: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85])

const entryOffset = 446
const entryBytes = 16

/** One of the four entries of an MBR. Sectors. */
export interface MbrEntry {
  readonly type: number
  readonly start: number
  readonly count: number
}

/** The four entries in a sector. */
export function mbrEntries(sector: Uint8Array): MbrEntry[] {
  const view = viewOf(sector)
  return [0, 1, 2, 3].map((index) => {
    const at = entryOffset + index * entryBytes
    return {
      type: view.getUint8(at + 4),
      start: view.getUint32(at + 8, true),
      count: view.getUint32(at + 12, true),
    }
  })
}

/** Puts an entry into a sector. Addresses in cylinders and heads say "beyond what they can count". */
export function putMbrEntry(sector: Uint8Array, index: number, { type, start, count }: MbrEntry): void {
  const view = viewOf(sector)
  const at = entryOffset + index * entryBytes
  sector.set([0xfe, 0xff, 0xff], at + 1)
  view.setUint8(at + 4, type)
  sector.set([0xfe, 0xff, 0xff], at + 5)
  view.setUint32(at + 8, start, true)
  view.setUint32(at + 12, count, true)
  view.setUint16(510, 0xaa55, true)
}
