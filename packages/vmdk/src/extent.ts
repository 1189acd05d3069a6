import type { ClusterRun, ImageError, IoOptions, MaybePromise, Storage } from '@img/core'
import { truncated, unsupported } from './errors.js'
import { SECTOR } from './limits.js'

/** A part of the disk, opened: where its bytes live. Offsets are bytes from the start of the extent. */
export interface Extent {
  /** Bytes. */
  readonly size: number
  /** Bytes of a grain; absent where there are none. */
  readonly grainSize?: number | undefined
  readonly compressed?: boolean | undefined
  /** One run, 1 to `maxLength` bytes. */
  lookup(offset: number, maxLength: number, options?: IoOptions): MaybePromise<ClusterRun>
}

/** Bytes that stand in a file as they are. Technote, "Flat Extents". */
export class FlatExtent implements Extent {
  size: number
  readonly storage: Storage
  /** First byte in the file. */
  readonly start: number

  constructor(storage: Storage, sectors: number, startSector: number) {
    this.storage = storage
    this.size = sectors * SECTOR
    this.start = startSector * SECTOR
  }

  /** The file was made larger or smaller. */
  setSize(size: number): void {
    this.size = size
  }

  lookup(offset: number, maxLength: number): ClusterRun {
    const { storage, start } = this
    const there = storage.size - start - offset
    if (there <= 0) {
      throw truncated(`ends at ${storage.size}, inside the extent it holds`, storage.label, start + offset)
    }
    return { kind: 'data', length: Math.min(maxLength, there), storage, hostOffset: start + offset }
  }
}

/** An extent that is zero throughout and has no file. Technote, "The Extent Description". */
export class ZeroExtent implements Extent {
  readonly size: number

  constructor(sectors: number) {
    this.size = sectors * SECTOR
  }

  lookup(_offset: number, maxLength: number): ClusterRun {
    return { kind: 'zero', length: maxLength }
  }
}

/** An extent that must not be accessed. */
export class NoAccessExtent implements Extent {
  readonly size: number
  readonly #source: string

  constructor(sectors: number, source: string) {
    this.size = sectors * SECTOR
    this.#source = source
  }

  lookup(): ClusterRun {
    throw unsupported('an extent is marked NOACCESS: its data must not be read', this.#source)
  }
}

/** An extent that cannot be opened, or was not: its file is missing, denied or damaged. */
export class ClosedExtent implements Extent {
  readonly size: number
  readonly error: ImageError

  constructor(sectors: number, error: ImageError) {
    this.size = sectors * SECTOR
    this.error = error
  }

  lookup(): never {
    throw this.error
  }
}
