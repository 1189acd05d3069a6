import type { BitmapStore, DirtyRange } from './bitmap.js'
import type { IoOptions } from './storage.js'

/** Ranges that are handed over in one turn. */
const readTogether = 1024
const markTogether = 65536

/** What the bitmaps of a disk need of it. */
export interface BitmapHost {
  /** Runs what must not meet a change, once those begun before are done. */
  look<T>(options: IoOptions | undefined, task: () => Promise<T>): Promise<T>
  /** Runs a change. */
  inTurn<T>(options: IoOptions | undefined, task: () => Promise<T>): Promise<T>
}

/** The bitmaps of a disk, over those of its driver: reading and changing them takes turns with other changes. */
export function diskBitmaps(store: BitmapStore, host: BitmapHost): BitmapStore {
  const { dirty, add, remove, clear, enable, disable, mark } = store
  return {
    list: (options) => host.look(options, async () => store.list(options)),
    ...(dirty && {
      dirty: (name, options) => inTurns(dirty.call(store, name, options), host, options),
    }),
    ...(add && { add: (name, options) => host.inTurn(options, () => add.call(store, name, options)) }),
    ...(remove && {
      remove: (name, options) => host.inTurn(options, () => remove.call(store, name, options)),
    }),
    ...(clear && { clear: (name, options) => host.inTurn(options, () => clear.call(store, name, options)) }),
    ...(enable && {
      enable: (name, options) => host.inTurn(options, () => enable.call(store, name, options)),
    }),
    ...(disable && {
      disable: (name, options) => host.inTurn(options, () => disable.call(store, name, options)),
    }),
    ...(mark && {
      // The ranges may be those of a bitmap of this very disk, which come in turns of their own.
      mark: async (name, ranges, options) => {
        const some: DirtyRange[] = []
        const put = (): Promise<void> =>
          host.inTurn(options, () => mark.call(store, name, some.splice(0), options))
        for await (const range of ranges) {
          some.push(range)
          if (some.length >= markTogether) await put()
        }
        await put()
      },
    }),
  }
}

async function* inTurns(
  ranges: AsyncIterable<DirtyRange>,
  host: BitmapHost,
  options: IoOptions | undefined,
): AsyncGenerator<DirtyRange> {
  const iterator = ranges[Symbol.asyncIterator]()
  let isOver = false
  try {
    while (!isOver) {
      const some: DirtyRange[] = []
      await host.look(options, async () => {
        while (!isOver && some.length < readTogether) {
          const { done, value } = await iterator.next()
          if (done) isOver = true
          else some.push(value)
        }
      })
      yield* some
    }
  } finally {
    if (!isOver) await iterator.return?.()
  }
}
