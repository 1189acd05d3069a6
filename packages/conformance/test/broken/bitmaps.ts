import { type BitmapInfo, type BitmapStore, type DirtyRange, ImageError } from '@img/core'
import { type Broken, withDriver } from './support.js'

/** Bitmaps that are there as long as the image is open, with some members changed. */
function withBitmaps(
  change: (store: Required<BitmapStore>, marks: Map<string, DirtyRange[]>) => BitmapStore,
): Broken['format'] {
  return withDriver((_driver, _storage, { writable }) => {
    const list: { name: string; granularity: number; enabled: boolean }[] = []
    const marks = new Map<string, DirtyRange[]>()
    const find = (name: string): BitmapInfo & { enabled: boolean } => {
      const found = list.find((bitmap) => bitmap.name === name)
      if (found === undefined) throw new Error(`no bitmap ${name}`)
      return found
    }
    const store: Required<BitmapStore> = {
      list: () => [...list],
      async *dirty(name) {
        yield* marks.get(name) ?? []
      },
      async add(name, options) {
        list.push({ name, granularity: 512, enabled: options?.disabled !== true })
        marks.set(name, [])
      },
      async remove(name) {
        list.splice(list.indexOf(find(name)), 1)
      },
      async clear(name) {
        marks.set(name, [])
      },
      async enable(name) {
        find(name).enabled = true
      },
      async disable(name) {
        find(name).enabled = false
      },
      async mark() {},
    }
    return {
      bitmaps: writable ? change(store, marks) : { list: store.list, dirty: store.dirty },
    }
  })
}

/** Faults of bitmaps. */
export const bitmapFaults: readonly Broken[] = [
  {
    what: 'takes a name twice',
    format: withBitmaps((store) => store),
    fault: /adding a bitmap whose name is taken succeeded; expected ImageError IMG_EXISTS/,
  },
  {
    what: 'has bitmaps that miss writes',
    format: withBitmaps((store) => ({
      ...store,
      add: async (name, options) => {
        if ((await store.list()).some((bitmap) => bitmap.name === name)) throw exists()
        await store.add(name, options)
      },
    })),
    fault: /after a write, bytes 100 to \d+ are not marked/,
  },
  {
    what: 'marks parts of units',
    format: withBitmaps((store, marks) => ({
      ...store,
      add: async (name, options) => {
        if ((await store.list()).some((bitmap) => bitmap.name === name)) throw exists()
        await store.add(name, options)
        marks.set(name, [{ offset: 100, length: 700 }])
      },
    })),
    fault: /bitmap one marks 700 bytes at 100, not in units of 512/,
  },
  {
    what: 'adds bitmaps that cannot be removed',
    format: withBitmaps(({ remove: _, ...others }) => others),
    fault: /bitmaps can be added, but there is no remove/,
  },
]

function exists(): ImageError {
  return new ImageError('IMG_EXISTS', 'the name is taken')
}
