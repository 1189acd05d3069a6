import { divideUp, type IoOptions } from '@img/core'
import { header, serialiseRoot } from '../toy/file.js'
import { makeToy } from '../toy/format.js'
import { ToyImage, writeNewRoot } from '../toy/image.js'
import { ToyWriter } from '../toy/writer.js'
import { type Broken, withMap } from './support.js'

/** Faults that only a power cut brings to light. */
export const powerCut: readonly Broken[] = [
  {
    what: 'loses what was written although it was flushed',
    format: withMap(() => ({ flush: () => undefined })),
    fault: /it was flushed as 0x[0-9a-f]+ \(by (flush|close)\)|what was written after the cut is not there/,
  },
  {
    what: 'writes the mapping before the data is safe',
    format: makeToy({
      Image: class extends ToyImage {
        override async commit(options: IoOptions = {}): Promise<void> {
          if (!this.dirty) return
          const { root, storage } = this
          const bytes = serialiseRoot(root)
          const offset = this.findRoom(divideUp(bytes.length, root.clusterSize), false)
          await storage.write?.(offset, bytes, options)
          await storage.write?.(0, header(root, offset, bytes.length), options)
          await storage.flush?.(options)
          this.rootPlace = { offset, length: bytes.length }
          this.durable = this.used()
          this.dirty = false
        }
      },
    }),
    fault: /after a cut with .*(lost|kept)/,
  },
  {
    what: 'writes its metadata over what the header still leads to',
    format: makeToy({
      Image: class extends ToyImage {
        override async commit(options: IoOptions = {}): Promise<void> {
          if (!this.dirty) return
          const { root, storage } = this
          const bytes = serialiseRoot(root)
          const fits = bytes.length <= this.rootPlace.length
          const offset = fits
            ? this.rootPlace.offset
            : this.findRoom(divideUp(bytes.length, root.clusterSize), false)
          await storage.flush?.(options)
          await storage.write?.(offset, bytes, options)
          await storage.flush?.(options)
          await storage.write?.(0, header(root, offset, bytes.length), options)
          await storage.flush?.(options)
          this.rootPlace = { offset, length: bytes.length }
          this.durable = this.used()
          this.dirty = false
        }
      },
    }),
    fault: /after a cut with .*(lost|kept)/,
  },
  {
    what: 'gives room out again before that is safe',
    format: makeToy({
      Image: class extends ToyImage {
        override findRoom(count: number, inData: boolean): number {
          this.durable = { image: new Set(), data: new Set() }
          return super.findRoom(count, inData)
        }
      },
    }),
    fault: /it was flushed as|failed with/,
  },
  {
    what: 'changes the size in its header at once',
    format: makeToy({
      Image: class extends ToyImage {
        override touch(): void {
          super.touch()
          const size = new Uint8Array(8)
          new DataView(size.buffer).setUint32(4, this.root.size)
          this.storage.write?.(16, size).catch(() => undefined)
        }
      },
    }),
    fault: /opening the image failed with ImageError IMG_CORRUPT: .*entries for \d+ clusters/,
  },
  {
    what: 'is an image before it is whole',
    format: makeToy({
      Writer: class extends ToyWriter {
        override async place(
          offset: number,
          length: number,
        ): Promise<Awaited<ReturnType<ToyWriter['place']>>> {
          const { size } = this.root
          const count = Math.ceil(size / this.clusterSize)
          const entries = Array.from(
            { length: count },
            () => ({ kind: 'unallocated', host: 0, packed: 0 }) as const,
          )
          await writeNewRoot(this.target, { ...this.root, entries }, this.next + 65536, {})
          return super.place(offset, length)
        }
      },
    }),
    fault:
      /making it was stopped before change \d+ of \d+: it opens without complaint, and what it reads is wrong/,
  },
]
