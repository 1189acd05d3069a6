import { abortable } from '../abort.js'
import { ByteCache } from './cache.js'

/** Where a {@link BlockReader} gets bytes from, and how. Sizes are bytes. */
export interface BlockSource {
  readonly size: number
  /** Unit of caching; loads start at a multiple of it. */
  readonly blockSize: number
  /** Budget of the cache. */
  readonly cacheBytes: number
  /** Longest load. */
  readonly maxLoad: number
  /** Longest read-ahead; 0: none. */
  readonly readAhead: number
  /**
   * Loads a range that lies within `size`. The array is the reader's.
   * @param signal aborts once nobody waits for the bytes any more
   */
  load(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array>
}

/** A range on its way. */
interface Load {
  readonly offset: number
  readonly length: number
  readonly bytes: Promise<Uint8Array>
  readonly controller: AbortController
  /** Nobody asked for it yet: it goes on without readers. */
  readonly ahead: boolean
  readers: number
  settled: boolean
}

/**
 * Random reads over a source that is dear to ask: whole blocks are loaded and cached, missing blocks that adjoin are one
 * load, what is on its way already is not asked for again, and reads that go forward are read ahead of.
 */
export class BlockReader {
  readonly #source: BlockSource
  readonly #cache: ByteCache<number>
  readonly #blocksPerLoad: number
  /** Loads above this many bytes pass the cache by: they would push everything else out. */
  readonly #bulk: number
  readonly #readAhead: number
  /** Block number to the load that brings it. */
  readonly #loading: Map<number, Load> = new Map()
  #active = 0
  #closed: Error | undefined
  // Where the last read ended, how far was read ahead, and how far to go next time.
  #next = -1
  #aheadEnd = 0
  #window = 0

  constructor(source: BlockSource) {
    this.#source = source
    this.#cache = new ByteCache(source.cacheBytes)
    this.#blocksPerLoad = Math.max(1, Math.floor(source.maxLoad / source.blockSize))
    this.#bulk = source.cacheBytes / 8
    this.#readAhead = Math.min(source.readAhead, source.cacheBytes / 4)
  }

  /** Puts bytes that came along into the cache. `offset` is a multiple of the block size. */
  keep(offset: number, bytes: Uint8Array): void {
    this.#keep(offset, bytes, false)
  }

  /** Fills `into` where all of it is cached, and tells whether so. The range lies within the source. */
  readSync(offset: number, into: Uint8Array): boolean {
    const { blockSize } = this.#source
    const end = offset + into.length
    for (let at = offset; at < end; at = this.#blockEnd(at)) {
      if (!this.#cache.has(Math.floor(at / blockSize))) return false
    }
    for (let at = offset; at < end; at = this.#blockEnd(at)) {
      copyPart(this.#cache.get(Math.floor(at / blockSize)) as Uint8Array, at - (at % blockSize), into, offset)
    }
    this.#goAhead(offset, end)
    return true
  }

  /** Fills `into`. The range lies within the source. Nothing is written into it once this has rejected. */
  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const end = offset + into.length
    const joined: Load[] = []
    const copies: Promise<void>[] = []
    let wanted = true
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / this.#source.blockSize)
      const cached = this.#cache.get(block)
      if (cached) {
        copyPart(cached, at - (at % this.#source.blockSize), into, offset)
        at = this.#blockEnd(at)
        continue
      }
      const load = this.#loading.get(block) ?? this.#start(block, end, false)
      load.readers++
      joined.push(load)
      copies.push(
        load.bytes.then((bytes) => {
          if (wanted) copyPart(bytes, load.offset, into, offset)
        }),
      )
      at = load.offset + load.length
    }
    if (copies.length === 0) return this.#goAhead(offset, end)
    this.#active++
    // Who has several reads under way reads ahead himself.
    if (this.#active === 1) this.#goAhead(offset, end)
    else this.#next = end
    try {
      await abortable(Promise.all(copies), signal)
    } finally {
      wanted = false
      this.#active--
      for (const load of joined) this.#leave(load)
    }
  }

  /** Ends all loads and forgets the cache. Reads under way reject with `reason`. */
  close(reason: Error): void {
    this.#closed = reason
    for (const { controller } of new Set(this.#loading.values())) controller.abort(reason)
    this.#loading.clear()
    this.#cache.clear()
  }

  #blockEnd(at: number): number {
    return at - (at % this.#source.blockSize) + this.#source.blockSize
  }

  /** Loads the run of missing blocks that begins with `first`, to where `end` lies at most. */
  #start(first: number, end: number, ahead: boolean): Load {
    const { blockSize, size } = this.#source
    const limit = Math.min(Math.ceil(end / blockSize), first + this.#blocksPerLoad)
    let last = first + 1
    while (last < limit && !this.#cache.has(last) && !this.#loading.has(last)) last++
    const offset = first * blockSize
    const length = Math.min(size, last * blockSize) - offset
    const controller = new AbortController()
    // Settled and cached in one step: no read may come between and ask for the same again.
    const bytes = abortable(this.#source.load(offset, length, controller.signal), controller.signal).then(
      (loaded) => {
        this.#settle(load)
        this.#keep(offset, loaded, !ahead && length > this.#bulk)
        return loaded
      },
      (error: unknown) => {
        this.#settle(load)
        throw error
      },
    )
    // Readers have the error from their copy; what was read ahead in vain is asked for again when needed.
    bytes.catch(() => undefined)
    const load: Load = { offset, length, bytes, controller, ahead, readers: 0, settled: false }
    for (let block = first; block < last; block++) this.#loading.set(block, load)
    return load
  }

  /** Caches the blocks of a load; of a bulk one only those at its ends, which the next read may share. */
  #keep(offset: number, bytes: Uint8Array, bulk: boolean): void {
    if (this.#closed) return
    const { blockSize } = this.#source
    const lastAt = bytes.length - 1 - ((bytes.length - 1) % blockSize)
    for (let at = 0; at < bytes.length; at += blockSize) {
      if (bulk && at !== 0 && at !== lastAt) continue
      const whole = at === 0 && bytes.length <= blockSize
      this.#cache.set((offset + at) / blockSize, whole ? bytes : bytes.slice(at, at + blockSize))
    }
  }

  #leave(load: Load): void {
    load.readers--
    if (load.readers > 0 || load.settled || load.ahead) return
    this.#forget(load)
    load.controller.abort()
  }

  #settle(load: Load): void {
    load.settled = true
    this.#forget(load)
  }

  #forget(load: Load): void {
    const { blockSize } = this.#source
    for (let at = load.offset; at < load.offset + load.length; at += blockSize) {
      if (this.#loading.get(at / blockSize) === load) this.#loading.delete(at / blockSize)
    }
  }

  /** After a read of [offset, end): where it went on from the one before, loads what will come next. */
  #goAhead(offset: number, end: number): void {
    if (this.#readAhead === 0 || end === offset) return
    const goesOn = offset === this.#next
    this.#next = end
    if (!goesOn) {
      this.#window = 0
      this.#aheadEnd = end
      return
    }
    this.#window = Math.min(this.#readAhead, Math.max(this.#window * 2, end - offset, this.#source.blockSize))
    if (this.#aheadEnd - end >= this.#window / 2) return
    const { blockSize, size } = this.#source
    const stop = Math.min(size, end + this.#window)
    let at = Math.max(end, this.#aheadEnd)
    while (at < stop) {
      const block = Math.floor(at / blockSize)
      if (this.#cache.has(block) || this.#loading.has(block)) at = this.#blockEnd(at)
      else {
        const load = this.#start(block, stop, true)
        at = load.offset + load.length
      }
    }
    this.#aheadEnd = Math.max(at, this.#aheadEnd)
  }
}

/** Copies the bytes that both ranges hold: `bytes` from `bytesAt`, `into` from `intoAt`. */
function copyPart(bytes: Uint8Array, bytesAt: number, into: Uint8Array, intoAt: number): void {
  const start = Math.max(bytesAt, intoAt)
  const end = Math.min(bytesAt + bytes.length, intoAt + into.length)
  if (start < end) into.set(bytes.subarray(start - bytesAt, end - bytesAt), start - intoAt)
}
