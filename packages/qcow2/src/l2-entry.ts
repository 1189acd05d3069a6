import type { Storage } from '@img/core'
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  compressedHost,
  compressedLength,
  compressedShift,
  L2_RESERVED_HIGH,
  pointedAt,
  ZERO_LOW,
} from './entries.js'
import { entryLayout } from './entry-layout.js'
import { hex } from './errors.js'
import type { Header } from './header.js'
import { SUBCLUSTERS } from './limits.js'
import type { TablePart } from './tables.js'

/** What guest bytes are, where they are not compressed. */
export type Kind = 'data' | 'zero' | 'unallocated'

/** What is wrong with an entry. */
export interface Damage {
  readonly code: 'IMG_CORRUPT' | 'IMG_TRUNCATED'
  /** Continues "the L2 entry of …". */
  readonly message: string
}

function corruptEntry(message: string): Damage {
  return { code: 'IMG_CORRUPT', message }
}

/**
 * One decoded L2 entry, filled anew by every `decode`: nothing is allocated on the way from an offset to a run.
 * Specification: L2 table entry, Standard and Compressed Clusters Descriptor, Extended L2 Entries.
 */
export class L2Entry {
  kind: Kind | 'compressed' | 'subclusters' = 'unallocated'
  /** Byte offset of the host cluster or of the compressed data; -1 without one. */
  host = -1
  /** Bytes of compressed data at most. */
  length = 0
  /** Subclusters that are allocated, and that read as zeros: one bit each. */
  allocated = 0
  zeros = 0
  readonly #clusterSize: number
  readonly #extended: boolean
  readonly #externalData: boolean
  /** Low bits of a standard descriptor that must be 0. */
  readonly #reservedLow: number
  /** Bits of a compressed entry's offset in the high word. */
  readonly #shift: number
  readonly #storage: Storage
  readonly #data: Storage

  /**
   * @param storage the image file
   * @param data where data clusters are: the same, or the external data file
   */
  constructor(header: Header, storage: Storage, data: Storage) {
    const layout = entryLayout(header)
    this.#clusterSize = layout.clusterSize
    this.#extended = layout.words === 4
    this.#externalData = layout.external
    this.#reservedLow = this.#extended || header.version === 2 ? 0x1ff : 0x1fe
    this.#shift = compressedShift(header.clusterBits)
    this.#storage = storage
    this.#data = data
  }

  /** Decodes the entry whose first word is at `at`. Tells what is wrong with it, if anything. */
  decode(part: TablePart, at: number): Damage | undefined {
    const high = part[at] as number
    const low = part[at + 1] as number
    if ((high & COMPRESSED_HIGH) !== 0) return this.#decodeCompressed(high, low)
    const host = pointedAt(part, at)
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & this.#reservedLow) !== 0) {
      return corruptEntry('has reserved bits set')
    }
    if (host % this.#clusterSize !== 0) return corruptEntry(`has an unaligned cluster offset ${hex(host)}`)
    const copied = (high & COPIED_HIGH) !== 0
    // Offset 0 is a place only in an external data file, and then marked by the flag.
    const allocated = host !== 0 || (copied && this.#externalData)
    this.host = allocated ? host : -1
    if (this.#extended) return this.#decodeSubclusters(part, at, copied)
    if ((low & ZERO_LOW) !== 0) {
      this.kind = 'zero'
    } else if (allocated) {
      this.kind = 'data'
      if (host >= this.#data.size) return this.#outside(host, this.#data)
    } else {
      this.kind = 'unallocated'
      if (copied) return corruptEntry('has flags but no cluster')
    }
    return undefined
  }

  /** Kind of one subcluster, 0 to 31. */
  subclusterKind(index: number): Kind {
    const bit = 1 << index
    if ((this.allocated & bit) !== 0) return 'data'
    return (this.zeros & bit) !== 0 ? 'zero' : 'unallocated'
  }

  /** How many subclusters from `start` on are of one kind. */
  sameSubclusters(kind: Kind, start: number): number {
    const { allocated, zeros } = this
    const members = kind === 'data' ? allocated : kind === 'zero' ? zeros : ~(allocated | zeros)
    const others = ~members >>> start
    const same = others === 0 ? SUBCLUSTERS : 31 - Math.clz32(others & -others)
    return Math.min(same, SUBCLUSTERS - start)
  }

  #decodeSubclusters(part: TablePart, at: number, copied: boolean): Damage | undefined {
    this.zeros = part[at + 2] as number
    this.allocated = part[at + 3] as number
    this.kind = 'subclusters'
    if ((this.zeros & this.allocated) !== 0) {
      return corruptEntry('marks subclusters both as allocated and as zero')
    }
    if (this.host < 0 && (this.allocated !== 0 || copied)) {
      return corruptEntry('says that subclusters are allocated but has no cluster')
    }
    if (this.allocated !== 0 && this.host >= this.#data.size) return this.#outside(this.host, this.#data)
    return undefined
  }

  #decodeCompressed(high: number, low: number): Damage | undefined {
    const host = compressedHost(high, low, this.#shift)
    const { size } = this.#storage
    this.kind = 'compressed'
    this.host = host
    // The last sector may be cut off by the end of the file: what matters ends before.
    this.length = Math.min(compressedLength(high, low, this.#shift), size - host)
    if (this.#externalData) return corruptEntry('is compressed in an image with an external data file')
    if (host < this.#clusterSize) return corruptEntry(`has compressed data in the header, at ${hex(host)}`)
    return host >= size ? this.#outside(host, this.#storage) : undefined
  }

  #outside(host: number, { label, size }: Storage): Damage {
    const message = `points to ${hex(host)}, past the end of ${label} (${size} bytes)`
    return { code: 'IMG_TRUNCATED', message }
  }
}
