import { ImageError } from './errors.js'
import type { Driver } from './format.js'
import type { DiskImage } from './image.js'
import { findSnapshot, type SnapshotStore } from './snapshot.js'
import type { IoOptions } from './storage.js'

/** The snapshots of an image that are open: what they read must not be taken from under them. */
export class OpenSnapshots {
  readonly #label: string
  readonly #ids: { readonly id: string }[] = []

  /** Label: of the image's storage. */
  constructor(label: string) {
    this.#label = label
  }

  /** Says that one is open. Returns what is to be called when it is closed. */
  add(id: string): () => void {
    const entry = { id }
    this.#ids.push(entry)
    return () => {
      const at = this.#ids.indexOf(entry)
      if (at >= 0) this.#ids.splice(at, 1)
    }
  }

  /**
   * To be called before what snapshots read is given up or moved.
   * @param id only that snapshot matters
   * @throws {ImageError} IMG_LOCKED where one is open.
   */
  assertNone(id?: string): void {
    const open = this.#ids.find((entry) => id === undefined || entry.id === id)
    if (open === undefined) return
    throw new ImageError('IMG_LOCKED', `${this.#label}: snapshot ${open.id} is open`, {
      source: this.#label,
      hint: 'close the snapshot first',
    })
  }
}

/** What the snapshots of a disk need of it. */
export interface SnapshotHost {
  readonly opened: OpenSnapshots
  /** Makes a disk of the driver of a snapshot. `closed` is to be called once. */
  open(driver: Driver, closed: () => void): DiskImage
  /** Runs what must not meet a change, once those begun before are done. */
  look<T>(options: IoOptions | undefined, task: () => Promise<T>): Promise<T>
  /** Runs a change. */
  inTurn<T>(options: IoOptions | undefined, task: () => Promise<T>): Promise<T>
  /** Forgets decompressed clusters. */
  forget(): void
}

/** The snapshots of a disk, over those of its driver. */
export function diskSnapshots(store: SnapshotStore<Driver>, host: SnapshotHost): SnapshotStore<DiskImage> {
  const { create, apply, delete: remove } = store
  const idOf = async (idOrName: string): Promise<string> =>
    findSnapshot(await store.list(), idOrName)?.id ?? idOrName
  return {
    list: () => store.list(),
    open: async (idOrName, options) =>
      host.look(options, async () => {
        const driver = await store.open(idOrName, options)
        return host.open(driver, host.opened.add(await idOf(idOrName)))
      }),
    ...(create && {
      create: (name, options) => host.inTurn(options, () => create.call(store, name, options)),
    }),
    ...(apply && {
      apply: (id, options) =>
        host.inTurn(options, async () => {
          host.forget()
          await apply.call(store, id, options)
        }),
    }),
    ...(remove && {
      delete: (id, options) =>
        host.inTurn(options, async () => {
          host.opened.assertNone(await idOf(id))
          await remove.call(store, id, options)
        }),
    }),
  }
}
