import type { IoOptions, WritableStorage } from '@img/core'
import type { Descriptor } from './descriptor.js'
import type { ImageParts } from './driver.js'
import { unsupported } from './errors.js'
import { readBytes } from './grain-tables.js'
import { SECTOR } from './limits.js'
import { newCid } from './new-descriptor.js'
import type { WritableSparse } from './write-sparse.js'

/** The descriptor of a disk that is changed: where it stands, and how it is written. */
export class DescriptorFile {
  readonly #storage: WritableStorage
  readonly #parts: ImageParts
  /** The extent that holds it, where one does. */
  readonly #holder: WritableSparse | undefined
  #place: { readonly offset: number; readonly room: number | undefined }

  constructor(storage: WritableStorage, parts: ImageParts, holder: WritableSparse | undefined) {
    this.#storage = storage
    this.#parts = parts
    this.#holder = holder
    this.#place = parts.descriptorPlace
  }

  /** Sets a new content id, with as many digits as the old one: only those bytes change. Made durable before it returns. */
  async renew(options?: IoOptions): Promise<void> {
    const { descriptor } = this.#parts
    const old = descriptor?.get('CID')
    if (descriptor === undefined || old === undefined) return
    const digits = Math.max(4, old.replace(/^0x/i, '').length)
    let cid = newCid() % 16 ** digits
    if (cid === descriptor.cid('CID') || cid === 0) cid = cid === 1 ? 2 : 1 + (cid % (16 ** digits - 2))
    const text = cid.toString(16).padStart(digits, '0')
    const long = descriptor.get('ddb.longContentID')
    await this.change((changed) => {
      changed.set('CID', text)
      if (long !== undefined && long.length === 32) {
        changed.set('ddb.longContentID', `${long.slice(0, 24)}${text.padStart(8, '0')}`)
      }
    }, options)
  }

  /**
   * Changes the descriptor and flushes. Where that takes more than one sector of an extent, the new text goes to the end of
   * the file and the header then points there: a power cut leaves the old one or the new one.
   * @throws {ImageError} IMG_UNSUPPORTED where there is no descriptor, or its room is too small.
   */
  async change(edit: (descriptor: Descriptor) => void, options?: IoOptions): Promise<void> {
    const { descriptor } = this.#parts
    const { label } = this.#storage
    if (descriptor === undefined) throw unsupported('a disk without a descriptor cannot be changed so', label)
    const next = descriptor.clone()
    edit(next)
    await this.#write(next.serialise(), options)
    edit(descriptor)
    await this.#storage.flush(options)
  }

  async #write(text: Uint8Array, options?: IoOptions): Promise<void> {
    const storage = this.#storage
    const { offset, room } = this.#place
    if (room === undefined) {
      // A file of its own: what the new text does not reach is cleared, then cut off.
      const bytes = new Uint8Array(Math.max(text.length, storage.size))
      bytes.set(text)
      await this.#overwrite(0, bytes, options)
      await storage.truncate(text.length, options)
      return
    }
    if (text.length >= room) throw unsupported('the descriptor would not fit any more', storage.label, offset)
    const bytes = new Uint8Array(room)
    bytes.set(text)
    const sectors = await this.#differing(offset, bytes, options)
    if (sectors.length <= 1 || this.#holder === undefined) return this.#overwrite(offset, bytes, options)
    const sector = this.#holder.reserve(room / SECTOR)
    await storage.write(sector * SECTOR, bytes, options)
    await storage.flush(options)
    await this.#holder.writeHeader({ descriptorOffset: sector }, options)
    this.#place = { offset: sector * SECTOR, room }
  }

  async #overwrite(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<void> {
    for (const at of await this.#differing(offset, bytes, options)) {
      await this.#storage.write(offset + at, bytes.subarray(at, at + SECTOR), options)
    }
  }

  /** Where sectors differ from what stands there. */
  async #differing(offset: number, bytes: Uint8Array, options?: IoOptions): Promise<number[]> {
    const there = Math.max(0, Math.min(bytes.length, this.#storage.size - offset))
    const old = await readBytes(this.#storage, offset, there, options ?? {})
    const sectors: number[] = []
    for (let at = 0; at < bytes.length; at += SECTOR) {
      const part = bytes.subarray(at, at + SECTOR)
      const before = old.subarray(at, at + SECTOR)
      if (part.length !== before.length || part.some((byte, i) => byte !== before[i])) sectors.push(at)
    }
    return sectors
  }
}
