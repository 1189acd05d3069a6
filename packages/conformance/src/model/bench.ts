import type { DiskImage } from '@img/core'
import { sameContent } from '../compare.js'
import { check, works } from '../fault.js'
import { walk } from '../groups/extents.js'
import type { ImageFiles } from '../image-files.js'
import type { Abilities, Kit } from '../kit.js'
import { type FileHook, Session } from '../session.js'
import type { SparseBytes } from '../sparse-bytes.js'

/** What an image should hold. */
export interface Model {
  readonly abilities: Abilities
  /** Guest bytes in a cluster. */
  readonly unit: number
  content: SparseBytes
  /** What each snapshot holds, by id. */
  readonly snapshots: Map<string, SparseBytes>
  /** What the backing file shows, where there is one. */
  readonly backing: SparseBytes | undefined
  size: number
}

/** A writable image that a test works on, closed and opened again as often as wanted. */
export class Bench {
  readonly #kit: Kit
  readonly #files: ImageFiles
  readonly #sync: boolean
  readonly #before: FileHook | undefined
  #session: Session | undefined
  #image: DiskImage | undefined

  constructor(kit: Kit, files: ImageFiles, sync: boolean, before?: FileHook) {
    this.#kit = kit
    this.#before = before
    this.#files = files
    this.#sync = sync
  }

  get image(): DiskImage {
    check(this.#image, 'the image is not open')
    return this.#image
  }

  async open(): Promise<void> {
    const session = new Session(this.#kit, this.#files, {
      writable: true,
      sync: this.#sync,
      before: this.#before,
    })
    this.#session = session
    this.#image = await works('opening the image for writing', () => session.open())
  }

  async close(): Promise<void> {
    await works('closing the image', () => this.image.close())
    this.#image = undefined
    this.#session?.assertClosed()
  }

  /** Closes after a failure. */
  async abandon(): Promise<void> {
    await this.#image?.close().catch(() => undefined)
  }

  /** Demands that the image holds what the model says, snapshots too. */
  async verify(model: Model, what: string): Promise<void> {
    await sameContent(this.image, model.content, what)
    await walk(this.image, 0, this.image.size, true)
    const { snapshots } = this.image
    if (!snapshots) return
    const list = await works(`${what}: listing snapshots`, () => snapshots.list())
    const known = [...model.snapshots.keys()]
    check(
      list.length === known.length && list.every(({ id }) => model.snapshots.has(id)),
      `${what}: the snapshots are ${list.map(({ id }) => id).join()}, expected ${known.join()}`,
    )
    for (const [id, content] of model.snapshots) {
      const snapshot = await works(`${what}: opening snapshot ${id}`, () => snapshots.open(id))
      await sameContent(snapshot, content, `${what}: snapshot ${id}`)
      await snapshot.close()
    }
  }
}
