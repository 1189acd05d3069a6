import { isPromise, type MaybePromise } from '../bytes.js'
import type { CompressedRun } from '../cluster.js'
import type { Codec } from '../codecs/codec.js'
import { loadCodec } from '../codecs/index.js'
import { ImageError } from '../errors.js'
import type { IoOptions } from '../storage.js'

const budget = 8 * 1024 * 1024

/** Decompressed clusters of one image, the latest few kept. */
export class UnitCache {
  readonly #units = new Map<string, Uint8Array>()
  #bytes = 0

  /** The whole decompressed unit that a run lies in. Not to be written to. */
  get(run: CompressedRun, format: string, options?: IoOptions): MaybePromise<Uint8Array> {
    const key = `${run.hostOffset}/${run.storage.label}`
    const hit = this.#units.get(key)
    if (hit !== undefined) {
      this.#units.delete(key)
      this.#units.set(key, hit)
      return hit
    }
    const unit = readUnit(run, format, options)
    return isPromise(unit) ? unit.then((bytes) => this.#keep(key, bytes)) : this.#keep(key, unit)
  }

  /** Forgets everything: after a write. */
  clear(): void {
    this.#units.clear()
    this.#bytes = 0
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
 * @throws {ImageError} IMG_CORRUPT with the host offset.
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
    const message = `compressed data at offset ${run.hostOffset} of ${run.storage.label} is damaged`
    throw new ImageError('IMG_CORRUPT', `${message}: ${(cause as Error).message}`, {
      source: run.storage.label,
      offset: run.hostOffset,
      cause,
    })
  }
}
