import type { Driver, SnapshotStore } from '@img/core'
import { makeToy } from '../toy/format.js'
import { ToyImage } from '../toy/image.js'
import { type Broken, override, withDriver } from './support.js'

type Store = SnapshotStore<Driver>

function withSnapshots(change: (store: Store, driver: Driver) => Partial<Store>): Broken['format'] {
  return withDriver((driver) =>
    driver.snapshots ? { snapshots: override(driver.snapshots, change(driver.snapshots, driver)) } : {},
  )
}

/** Faults of snapshots. */
export const snapshots: readonly Broken[] = [
  {
    what: 'applies the wrong snapshot',
    format: withSnapshots((store) => ({
      async apply(_, options) {
        const [first] = await store.list()
        await store.apply?.(first?.id ?? '', options)
      },
    })),
    fault: /after applying the other snapshot: guest offset \d+ reads as/,
  },
  {
    what: 'applies nothing',
    format: withSnapshots(() => ({ apply: () => Promise.resolve() })),
    fault: /after applying a snapshot: guest offset \d+ reads as/,
  },
  {
    what: 'writes into clusters that a snapshot shares',
    format: makeToy({
      Image: class extends ToyImage {
        override isShared(): boolean {
          return false
        }
      },
    }),
    fault: /snapshot before: guest offset \d+ reads as/,
  },
  {
    what: 'opens any snapshot where there is none of that name',
    format: withSnapshots((store) => ({
      async open(idOrName, options) {
        const list = await store.list()
        const found = list.find(({ id, name }) => id === idOrName || name === idOrName)
        return store.open((found ?? list[0])?.id ?? idOrName, options)
      },
    })),
    fault: /opening a deleted snapshot succeeded; expected ImageError IMG_NOT_FOUND/,
  },
  {
    what: 'closes the image with its snapshot',
    format: withDriver((driver, storage) => ({
      snapshots: override(driver.snapshots as Store, {
        open: async (idOrName) =>
          override(await (driver.snapshots as Store).open(idOrName), { close: () => storage.close() }),
      }),
    })),
    fault: /IMG_CLOSED: image of the test is closed/,
  },
  {
    what: 'deletes only from the list that it tells',
    format: withSnapshots((store) => {
      const gone = new Set<string>()
      return {
        list: async () => (await store.list()).filter(({ id }) => !gone.has(id)),
        async delete(idOrName) {
          for (const { id, name } of await store.list())
            if (idOrName === id || idOrName === name) gone.add(id)
        },
      }
    }),
    fault: /opening a deleted snapshot succeeded/,
  },
  {
    what: 'forgets the name of a snapshot',
    format: withSnapshots((store) => ({
      create: (_, options) => (store.create as NonNullable<Store['create']>)('snapshot', options),
    })),
    fault: /the snapshot taken is called "snapshot"/,
  },
]
