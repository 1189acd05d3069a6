import type { CreateContext, CreateSpec, ImageWriter, IoOptions, Placement, WritableStorage } from '@img/core'
import { Bitmap } from './bitmap.js'
import { cowError } from './errors.js'
import { type Header, SECTOR, serialiseHeader } from './header.js'
import { newImage } from './new-image.js'

/**
 * Starts a new image: data at its place, then the bitmap, and the header last of all: before it, the file is no image.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_NO_SPACE, IMG_IO.
 */
export async function createCow(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const header = newImage(spec)
  // What stood in the target before is no image any more.
  if (target.size > 0) await target.write(0, new Uint8Array(SECTOR), context)
  return new CowWriter(target, header)
}

class CowWriter implements ImageWriter {
  readonly clusterSize: number = SECTOR
  readonly #target: WritableStorage
  readonly #header: Header
  readonly #bitmap: Bitmap
  #closed = false

  constructor(target: WritableStorage, header: Header) {
    this.#target = target
    this.#header = header
    this.#bitmap = new Bitmap(new Uint8Array(header.bitmapBytes), header.size / SECTOR)
  }

  place(offset: number, length: number): Placement {
    this.#bitmap.mark(Math.floor(offset / SECTOR), Math.ceil((offset + length) / SECTOR), true)
    return { storage: this.#target, hostOffset: this.#header.dataOffset + offset, length }
  }

  async finish(options: IoOptions = {}): Promise<void> {
    const target = this.#target
    if (this.#closed) throw cowError('IMG_CLOSED', 'the new image was given up', target.label)
    await target.write(this.#header.bitmapOffset, this.#bitmap.bytes, options)
    // A size inside a sector: the rest of that one is there, too.
    const last = this.#bitmap.sectors - 1
    const end = this.#header.dataOffset + (last + 1) * SECTOR
    if (last >= 0 && this.#bitmap.has(last) && target.size < end) await target.truncate(end, options)
    await target.write(0, serialiseHeader(this.#header), options)
  }

  async close(): Promise<void> {
    this.#closed = true
  }
}
