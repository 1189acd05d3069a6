import { isPromise, type MaybePromise } from '../bytes.js'
import type { CompressedRun } from '../cluster.js'
import type { Codec } from '../codecs/codec.js'
import { loadCodec } from '../codecs/index.js'
import { ImageError } from '../errors.js'
import type { IoOptions, Storage } from '../storage.js'

const budget = 8 * 1024 * 1024

/** Decompressed clusters of one image, the latest few kept. */
export class UnitCache {
  /** Counted, since labels of storages need not differ. */
  readonly #storages = new Map<Storage, number>()
  #units = new Map<string, Uint8Array>()
  #bytes = 0

  /** The whole decompressed unit that a run lies in. Not to be written to. */
  get(run: CompressedRun, format: string, options?: IoOptions): MaybePromise<Uint8Array> {
    const key = `${run.hostOffset}/${this.#number(run.storage)}`
    const units = this.#units
    const hit = units.get(key)
    if (hit !== undefined) {
      units.delete(key)
      units.set(key, hit)
      return hit
    }
    const unit = readUnit(run, format, options)
    if (!isPromise(unit)) return this.#keep(key, unit)
    // What was read before a write began is not kept after it.
    return unit.then((bytes) => (units === this.#units ? this.#keep(key, bytes) : bytes))
  }

  /** Forgets everything: after a write. */
  clear(): void {
    this.#units = new Map()
    this.#bytes = 0
  }

  #number(storage: Storage): number {
    let number = this.#storages.get(storage)
    if (number === undefined) {
      number = this.#storages.size
      this.#storages.set(storage, number)
    }
    return number
  }

  #keep(key: string, unit: Uint8Array): Uint8Array {
    if (this.#units.has(key)) return unit
    this.#units.set(key, unit)
    this.#bytes += unit.length
    for (const [oldest, bytes] of this.#units) {
      if (this.#bytes <= budget || this.#units.size <= 2) break
      this.#units.delete(oldest)
      this.#bytes -= bytes.length
    }
    return unit
  }
}

/**
 * Reads and decompresses the unit of a run.
 * @throws {ImageError} IMG_TRUNCATED, IMG_CORRUPT with the host offset.
 */
export function readUnit(run: CompressedRun, format: string, options?: IoOptions): MaybePromise<Uint8Array> {
  const { storage, hostOffset } = run
  // The recorded length is rounded up to sectors and may pass the end of the file.
  const length = Math.min(run.hostLength, storage.size - hostOffset)
  if (length <= 0) {
    throw new ImageError(
      'IMG_TRUNCATED',
      `compressed data at ${hostOffset} is past the end of ${storage.label} (${storage.size} bytes)`,
      {
        format,
        source: storage.label,
        offset: hostOffset,
        hint: 'the file is cut short: copy it again from its source',
      },
    )
  }
  const input = new Uint8Array(length)
  const codec = loadCodec(run.codec)
  if (!isPromise(codec) && storage.readSync?.(hostOffset, input)) return decompressUnit(run, codec, input)
  return Promise.all([codec, storage.read(hostOffset, input, options)]).then(([ready]) =>
    decompressUnit(run, ready, input),
  )
}

/**
 * Decompresses the unit of a run, into `into` where given.
 * @throws {ImageError} IMG_CORRUPT with the host offset; IMG_UNSUPPORTED where the codec lacks what the data needs.
 */
export function decompressUnit(
  run: CompressedRun,
  codec: Codec,
  input: Uint8Array,
  into?: Uint8Array,
): Uint8Array {
  try {
    return codec.decompress(input, run.unitLength, into)
  } catch (cause) {
    const place = `compressed data at offset ${run.hostOffset} of ${run.storage.label}`
    const [code, verdict] = ImageError.is(cause, 'IMG_UNSUPPORTED')
      ? (['IMG_UNSUPPORTED', 'cannot be read'] as const)
      : (['IMG_CORRUPT', 'is damaged'] as const)
    throw new ImageError(code, `${place} ${verdict}: ${(cause as Error).message}`, {
      source: run.storage.label,
      offset: run.hostOffset,
      cause,
    })
  }
}
