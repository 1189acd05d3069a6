import type { Header } from './header.js'

interface Range {
  readonly name: string
  readonly offset: number
  readonly length: number
}

/** Knows where metadata other than L2 tables lies, so that a repair never writes an L2 table over it. */
export class MetadataMap {
  readonly #ranges: Range[]
  readonly #blocks: ReadonlySet<number>
  readonly #clusterSize: number

  constructor(header: Header, blocks: Iterable<number>, more: readonly Range[]) {
    const size = 2 ** header.clusterBits
    this.#clusterSize = size
    this.#blocks = new Set(blocks)
    this.#ranges = [
      { name: 'qcow2_header', offset: 0, length: size },
      { name: 'active L1 table', offset: header.l1TableOffset, length: header.l1Size * 8 },
      {
        name: 'refcount table',
        offset: header.refcountTableOffset,
        length: header.refcountTableClusters * size,
      },
      ...more,
    ]
  }

  /** What would be overwritten by an L2 table at that byte offset; undefined where nothing would. */
  otherThanL2(offset: number): string | undefined {
    const size = this.#clusterSize
    const first = Math.floor(offset / size) * size
    const end = Math.ceil((offset + size) / size) * size
    for (let at = first; at < end; at += size) if (this.#blocks.has(at)) return 'refcount block'
    return this.#ranges.find((range) => {
      const start = Math.floor(range.offset / size) * size
      return range.length > 0 && start < end && range.offset + range.length > first
    })?.name
  }
}
