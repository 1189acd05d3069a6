import { type CompressedRun, codecIfReady, decompressUnit, type Storage } from '@img/core'

/** Host bytes read at once: compressed clusters mostly lie one after the other. */
const spanBytes = 256 * 1024

/**
 * Reads compressed clusters many at a time, and decompresses them at once.
 */
export class CompressedSpan {
  #bytes = new Uint8Array(spanBytes)
  #storage: Storage | undefined
  #start = 0
  #end = 0

  /** Fills `into` with the guest bytes of a run; false where that would have to be waited for. */
  fill(run: CompressedRun, into: Uint8Array): boolean {
    const codec = codecIfReady(run.codec)
    const { storage, hostOffset } = run
    // The recorded length is rounded up to sectors and may pass the end of the file.
    const end = Math.min(hostOffset + run.hostLength, storage.size)
    if (codec === undefined || storage.readSync === undefined || end <= hostOffset) return false
    const here = storage === this.#storage && hostOffset >= this.#start && end <= this.#end
    if (!here && !this.#load(storage, hostOffset, end)) return false
    const input = this.#bytes.subarray(hostOffset - this.#start, end - this.#start)
    if (run.unitOffset === 0 && into.length === run.unitLength) decompressUnit(run, codec, input, into)
    else {
      const unit = decompressUnit(run, codec, input)
      into.set(unit.subarray(run.unitOffset, run.unitOffset + into.length))
    }
    return true
  }

  #load(storage: Storage, start: number, needed: number): boolean {
    this.#storage = undefined
    const end = Math.min(storage.size, Math.max(needed, start + spanBytes))
    if (this.#bytes.length < end - start) this.#bytes = new Uint8Array(end - start)
    if (storage.readSync?.(start, this.#bytes.subarray(0, end - start)) !== true) return false
    this.#storage = storage
    this.#start = start
    this.#end = end
    return true
  }
}
