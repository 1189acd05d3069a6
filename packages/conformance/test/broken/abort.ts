import { ImageError } from '@img/core'
import { makeToy, toy } from '../toy/format.js'
import { writeNewRoot } from '../toy/image.js'
import { ToyWriter } from '../toy/writer.js'
import { type Broken, withFormat, withMap } from './support.js'

/** Faults of being aborted. */
export const abort: readonly Broken[] = [
  {
    what: 'ignores abort when opening',
    format: withFormat({ open: (storage, context) => toy.open(storage, { ...context, signal: undefined }) }),
    fault: /opening ignored the abort/,
  },
  {
    what: 'makes an error of its own out of an abort',
    format: withFormat({
      async open(storage, context) {
        try {
          return await toy.open(storage, context)
        } catch (cause) {
          throw new ImageError('IMG_IO', 'the image cannot be opened', { cause })
        }
      },
    }),
    fault:
      /failed with ImageError IMG_IO: the image cannot be opened; expected the reason of the signal itself/,
  },
  {
    what: 'remembers that a read was aborted',
    format: withMap((map, _, storage) => {
      let loaded: Promise<void> | undefined
      return {
        async lookup(offset, length, options) {
          loaded ??= storage.read(0, new Uint8Array(512), options)
          await loaded
          return map.lookup(offset, length, options)
        },
      }
    }),
    fault: /after a read was aborted: reading \d+ bytes at 0 failed with Error: stopped by the test/,
  },
  {
    what: 'goes on reading its tables after an abort',
    format: withMap((map, _, storage) => ({
      async lookup(offset, length, options) {
        for (let i = 0; i < 30; i++) await storage.read(0, new Uint8Array(512)).catch(() => undefined)
        return map.lookup(offset, Math.min(length, 512), options)
      },
    })),
    fault: /listing extents ignored the abort at call .*: it made \d+ more calls before it rejected/,
  },
  {
    what: 'leaves half an image that opens',
    format: makeToy({
      Writer: class extends ToyWriter {
        override place(offset: number, length: number): ReturnType<ToyWriter['place']> {
          const empty = { ...this.root, size: this.root.size, entries: [] as typeof this.root.entries }
          const count = Math.ceil(empty.size / this.clusterSize)
          for (let i = 0; i < count; i++) empty.entries.push({ kind: 'unallocated', host: 0, packed: 0 })
          return writeNewRoot(this.target, empty, this.next + 65536, {}).then(() =>
            super.place(offset, length),
          )
        }
      },
    }),
    fault: /an image that was given up opens, but is not whole/,
  },
]
