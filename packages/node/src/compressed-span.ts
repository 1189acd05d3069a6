import { type CompressedRun, codecIfReady, decompressUnit, type Extent, type Storage } from '@img/core'

/** Host bytes read at once at most. */
const spanBytes = 2 * 1024 * 1024

/**
 * Reads compressed clusters that lie close together with one read of the file, and decompresses them at once.
 */
export class CompressedSpan {
  #bytes = new Uint8Array(0)
  #storage: Storage | undefined
  #start = 0
  #end = 0

  /**
   * Fills `into` with the guest bytes of `extents[index]`; false where that would have to be waited for.
   * The extents after it say how much is worth reading along.
   */
  fill(extents: readonly Extent[], index: number, into: Uint8Array): boolean {
    const run = extents[index] as Extent
    if (run.kind !== 'compressed') return false
    const codec = codecIfReady(run.codec)
    const { storage, hostOffset } = run
    const end = Math.min(hostOffset + run.hostLength, storage.size)
    if (codec === undefined || storage.readSync === undefined || end <= hostOffset) return false
    if (storage !== this.#storage || hostOffset < this.#start || end > this.#end) {
      if (!this.#load(storage, hostOffset, spanEnd(extents, index, end))) return false
    }
    const input = this.#bytes.subarray(hostOffset - this.#start, end - this.#start)
    if (run.unitOffset === 0 && into.length === run.unitLength) decompressUnit(run, codec, input, into)
    else into.set(decompressUnit(run, codec, input).subarray(run.unitOffset, run.unitOffset + into.length))
    return true
  }

  #load(storage: Storage, start: number, end: number): boolean {
    this.#storage = undefined
    if (this.#bytes.length < end - start) this.#bytes = new Uint8Array(Math.max(end - start, spanBytes))
    if (storage.readSync?.(start, this.#bytes.subarray(0, end - start)) !== true) return false
    this.#storage = storage
    this.#start = start
    this.#end = end
    return true
  }
}

/** Where the read may end: after the last of the next compressed clusters that follow each other closely. */
function spanEnd(extents: readonly Extent[], index: number, first: number): number {
  const { storage, hostOffset: start } = extents[index] as CompressedRun
  let end = first
  for (const next of extents.slice(index + 1)) {
    if (next.kind !== 'compressed' || next.storage !== storage) break
    const nextEnd = Math.min(next.hostOffset + next.hostLength, storage.size)
    if (next.hostOffset < start || next.hostOffset > end || nextEnd - start > spanBytes) break
    end = Math.max(end, nextEnd)
  }
  return end
}
