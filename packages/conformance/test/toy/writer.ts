import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  divideUp,
  ImageError,
  type ImageWriter,
  type OptionsOf,
  type Placement,
  type WritableStorage,
} from '@img/core'
import { type Entry, maxSize, nothing, type Root } from './file.js'
import { firstCluster, writeNewRoot } from './image.js'
import type { toyCreateOptions } from './options.js'

/** The metadata of an empty image. */
export function newRoot(spec: CreateSpec): Root {
  const options = spec.options as OptionsOf<typeof toyCreateOptions>
  const { size = 0 } = spec
  checkSize(size)
  return {
    clusterSize: options.cluster_size,
    size,
    codec: options.codec,
    names: {
      backing: options.backing_file ?? '',
      backingFormat: options.backing_fmt ?? '',
      data: options.data_file ?? '',
    },
    entries: [],
    snapshots: [],
    nextSnapshot: 1,
  }
}

function checkSize(size: number): void {
  if (size <= maxSize) return
  throw new ImageError('IMG_UNSUPPORTED_SIZE', `toy disks have at most ${maxSize} bytes, not ${size}`)
}

/** Starts a toy image: data first, then all metadata, the header last. */
export async function createToy(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
  Writer: typeof ToyWriter = ToyWriter,
): Promise<ImageWriter> {
  const root = newRoot(spec)
  const { names } = root
  const data =
    names.data === ''
      ? target
      : await context.createReference({ kind: 'data', name: names.data, format: undefined })
  return new Writer(root, target, data, spec)
}

export class ToyWriter implements ImageWriter {
  readonly clusterSize: number
  readonly compression: ImageWriter['compression']
  protected readonly root: Root
  protected readonly target: WritableStorage
  protected next: number
  protected readonly data: WritableStorage
  readonly #reserve: boolean
  protected closed = false

  constructor(root: Root, target: WritableStorage, data: WritableStorage, spec: CreateSpec) {
    this.root = root
    this.target = target
    this.clusterSize = root.clusterSize
    this.next = firstCluster(root.clusterSize)
    this.data = data
    this.#reserve = spec.options.reserve === true
    if (spec.compress === true) this.compression = { codec: root.codec }
  }

  place(offset: number, length: number): Placement | Promise<Placement> {
    const { clusterSize } = this
    const part = Math.min(length, 2 * clusterSize)
    const index = offset / clusterSize
    this.next = alignUp(this.next, clusterSize)
    const hostOffset = this.next
    for (let i = 0; i < divideUp(part, clusterSize); i++, this.next += clusterSize) {
      this.set(index + i, { kind: 'data', host: this.next, packed: 0 })
    }
    const placed = { storage: this.data, hostOffset, length: part }
    return index % 2 === 0 ? placed : Promise.resolve(placed)
  }

  placeCompressed(offset: number, hostLength: number): Placement {
    const hostOffset = this.next
    this.next += hostLength
    this.set(offset / this.clusterSize, { kind: 'compressed', host: hostOffset, packed: hostLength })
    return { storage: this.data, hostOffset, length: this.clusterSize }
  }

  zero(offset: number, length: number): void {
    // What is not placed reads as zeros anyway where there is no backing file.
    if (this.root.names.backing === '') return
    const first = offset / this.clusterSize
    for (let i = 0; i < divideUp(length, this.clusterSize); i++) {
      this.set(first + i, { kind: 'zero', host: 0, packed: 0 })
    }
  }

  async finish({ size, signal }: Parameters<ImageWriter['finish']>[0] = {}): Promise<void> {
    if (this.closed) throw new TypeError('the writer is closed')
    const { root, clusterSize } = this
    if (size !== undefined) {
      checkSize(size)
      root.size = size
    }
    const count = divideUp(root.size, clusterSize)
    for (let index = 0; index < count; index++) {
      const entry = root.entries[index] ?? nothing
      root.entries[index] = entry
      if (!this.#reserve || entry.host !== 0) continue
      this.next = alignUp(this.next, clusterSize)
      root.entries[index] = { kind: entry.kind, host: this.next, packed: 0 }
      this.next += clusterSize
    }
    const end = alignUp(this.next, clusterSize)
    await this.data.truncate(end, { signal })
    await writeNewRoot(this.target, root, this.rootAt(end), { signal })
  }

  /** Where the metadata goes: `end` is where the data ends. */
  protected rootAt(end: number): number {
    return this.data === this.target ? end : firstCluster(this.clusterSize)
  }

  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    if (this.data !== this.target) await this.data.close()
  }

  protected set(index: number, entry: Entry): void {
    const { entries } = this.root
    while (entries.length < index) entries.push(nothing)
    entries[index] = entry
  }
}
