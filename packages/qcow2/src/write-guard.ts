import { corrupt, hex } from './errors.js'

/** What a cluster of the file is for, where it is not guest data. */
export type MetadataKind =
  | 'header'
  | 'active L1 table'
  | 'active L2 table'
  | 'refcount table'
  | 'refcount block'
  | 'snapshot table'
  | 'L1 table of a snapshot'
  | 'bitmap directory'
  | 'encryption header'

/**
 * Knows which clusters hold metadata, so that nothing is ever written over what is something else: an image whose
 * refcounts or tables are wrong is refused instead of made worse.
 */
export class WriteGuard {
  /** A write that would have destroyed metadata was stopped. */
  overlapped = false
  readonly #kinds = new Map<number, MetadataKind>()
  readonly #clusterSize: number
  readonly #source: string

  constructor(clusterSize: number, source: string) {
    this.#clusterSize = clusterSize
    this.#source = source
  }

  /**
   * Says what a range of bytes from the start of a cluster is for.
   * @throws {ImageError} IMG_CORRUPT where it is something else already.
   */
  add(kind: MetadataKind, offset: number, length: number): void {
    for (const cluster of this.#clusters(offset, length)) {
      const other = this.#kinds.get(cluster)
      if (other !== undefined) throw this.#overlap(kind, other, cluster)
      this.#kinds.set(cluster, kind)
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#kinds.clear()
    this.overlapped = false
  }

  /** Forgets a range that is no metadata any more. */
  remove(offset: number, length: number): void {
    for (const cluster of this.#clusters(offset, length)) this.#kinds.delete(cluster)
  }

  /**
   * Checks a range before it is written as metadata.
   * @throws {ImageError} IMG_CORRUPT where it is not known as that.
   */
  assertKind(kind: MetadataKind, offset: number, length: number): void {
    for (const cluster of this.#clusters(offset, length)) {
      const other = this.#kinds.get(cluster)
      if (other !== kind) throw this.#overlap(kind, other ?? 'data', cluster)
    }
  }

  /**
   * Checks a range before it is written as guest data, or taken for something new.
   * @throws {ImageError} IMG_CORRUPT where it holds metadata.
   */
  assertData(offset: number, length: number): void {
    for (const cluster of this.#clusters(offset, length)) {
      const other = this.#kinds.get(cluster)
      if (other !== undefined) throw this.#overlap('data', other, cluster)
    }
  }

  *#clusters(offset: number, length: number): Generator<number> {
    const end = Math.ceil((offset + length) / this.#clusterSize)
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster < end; cluster++) yield cluster
  }

  #overlap(kind: string, other: string, cluster: number): Error {
    const offset = cluster * this.#clusterSize
    this.overlapped = true
    return corrupt(
      `a write of ${kind} at ${hex(offset)} would overwrite ${other}: nothing was written`,
      this.#source,
      offset,
    )
  }
}
