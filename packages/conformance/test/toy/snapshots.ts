import { type Driver, findSnapshot, ImageError, type SnapshotInfo, type SnapshotStore } from '@img/core'
import { nothing, type ToySnapshot } from './file.js'
import type { ToyImage } from './image.js'
import { ToyMap } from './map.js'

/** The snapshots of a toy image. Each change is committed at once. */
export function toySnapshots(image: ToyImage, writable: boolean): SnapshotStore<Driver> {
  const { root } = image
  const find = (idOrName: string): ToySnapshot => {
    const found = findSnapshot(root.snapshots, idOrName)
    if (found === undefined) {
      throw new ImageError(
        'IMG_NOT_FOUND',
        `${image.storage.label} has no snapshot ${JSON.stringify(idOrName)}`,
      )
    }
    return found
  }
  return {
    list: () => root.snapshots.map(describe),
    async open(idOrName) {
      const { size, entries } = find(idOrName)
      const backing = backingOf(image)
      return {
        size,
        map: new ToyMap(image, (index) => entries[index] ?? nothing),
        info: () => ({ clusterSize: root.clusterSize }),
        ...(backing && { backing }),
      }
    },
    ...(writable && {
      async create(name, options) {
        const { size, entries } = root
        const snapshot = { id: String(root.nextSnapshot++), name, size, entries: [...entries] }
        root.snapshots = [...root.snapshots, snapshot]
        image.touch()
        await image.commit(options)
        return describe(snapshot)
      },
      async apply(idOrName, options) {
        const { size, entries } = find(idOrName)
        root.size = size
        root.entries = [...entries]
        image.touch()
        await image.commit(options)
      },
      async delete(idOrName, options) {
        const gone = find(idOrName)
        root.snapshots = root.snapshots.filter((snapshot) => snapshot !== gone)
        image.touch()
        await image.commit(options)
      },
    }),
  }
}

function describe({ id, name, size }: ToySnapshot): SnapshotInfo {
  const never = { seconds: 0, nanoseconds: 0 }
  return { id, name, vmStateSize: 0, date: never, vmClock: never, virtualSize: size }
}

/** The backing file of an image as its driver names it. */
export function backingOf(image: ToyImage): Driver['backing'] {
  const { backing, backingFormat } = image.root.names
  if (backing === '') return undefined
  return { kind: 'backing', name: backing, format: backingFormat === '' ? undefined : backingFormat }
}
