import {
  type Allocation,
  type IoOptions,
  isPromise,
  type MaybePromise,
  type Storage,
  type ZeroOptions,
  zeroBlock,
} from '@img/core'
import { SECTOR } from './limits.js'
import { type Volume, volumeView } from './volume.js'

/** A logical volume that is open for writing. */
export interface Target {
  /** Bytes in the unit of allocation, where the volume has one of its own. */
  readonly unit?: number | undefined
  /** As `ClusterMap.allocate`. */
  allocate(offset: number, length: number, options?: IoOptions): MaybePromise<Allocation>
  /** Makes whole units read as zeros without writing them, as `ClusterMap.zero`. */
  zero?(offset: number, length: number, options?: ZeroOptions): MaybePromise<void>
  /** As `ClusterMap.discard`. */
  discard?(offset: number, length: number, options?: IoOptions): MaybePromise<void>
  /**
   * Stores what is known in memory only. The disks were flushed before, and are afterwards; `flush` does it in between.
   * Returns false where there was nothing to store.
   */
  commit?(flush: () => Promise<void>, options?: IoOptions): Promise<boolean>
}

/** Regions of copies or parity that are marked on the disks as being written: a power cut leaves them to be made alike. */
export interface Marks {
  /** Takes back the marks made since the volume was opened. Everything written is on the disks. */
  clear(options?: IoOptions): Promise<void>
}

/** The disks of a group that is written: what has to be on them before something else. */
export class Disks {
  readonly #storages: readonly Storage[]
  readonly #marks: Marks[] = []
  #unflushed = false
  #failed = false

  constructor(storages: readonly Storage[]) {
    this.#storages = [...new Set(storages)]
  }

  /** Makes everything written so far survive a power cut. */
  async flush(options?: IoOptions): Promise<void> {
    await Promise.all(this.#storages.map((storage) => storage.flush?.(options)))
    this.#unflushed = false
  }

  add(marks: Marks): void {
    this.#marks.push(marks)
  }

  /** Does a change of which several places have to agree. Where one fails, marks are kept for ever. */
  async together(change: () => Promise<unknown>): Promise<void> {
    this.#unflushed = true
    try {
      await change()
    } catch (error) {
      this.#failed = true
      throw error
    }
  }

  /** Takes back all marks, where nothing was left half-written. */
  async settle(): Promise<void> {
    if (this.#failed || this.#unflushed) return
    for (const marks of this.#marks) await marks.clear()
    await this.flush()
  }
}

/** Where the disk cannot make zeros by itself. */
async function writeZeros(
  storage: Storage,
  offset: number,
  length: number,
  options?: IoOptions,
): Promise<void> {
  for (let done = 0; done < length; done += zeroBlock.length) {
    await storage.write?.(offset + done, zeroBlock.subarray(0, length - done), options)
  }
}

/** A volume that is written where it is: zeros and what is given back go down to the disks. */
export function inPlace(volume: Volume, label: string): Target {
  if (volume.plain !== true) {
    const storage = volumeView(volume, label)
    return { allocate: (offset, length) => ({ storage, hostOffset: offset, length }) }
  }
  const placed = (run: Awaited<ReturnType<Volume['lookup']>>): Allocation => {
    const { storage, hostOffset, length } = run as Extract<typeof run, { kind: 'data' }>
    return { storage, hostOffset, length }
  }
  const each = async (
    offset: number,
    length: number,
    change: (room: Allocation, length: number) => Promise<void>,
  ): Promise<void> => {
    for (let done = 0; done < length; ) {
      const run = volume.lookup(offset + done, length - done)
      const room = placed(isPromise(run) ? await run : run)
      await change(room, room.length)
      done += room.length
    }
  }
  return {
    unit: SECTOR,
    zero: (offset, length, options) =>
      each(offset, length, ({ storage, hostOffset }, size) =>
        storage.writeZeroes === undefined
          ? writeZeros(storage, hostOffset, size, options)
          : storage.writeZeroes(hostOffset, size, options),
      ),
    discard: (offset, length, options) =>
      each(offset, length, async ({ storage, hostOffset }, size) =>
        storage.discard?.(hostOffset, size, options),
      ),
    allocate(offset, length) {
      const run = volume.lookup(offset, length)
      return isPromise(run) ? run.then(placed) : placed(run)
    },
  }
}
