import { ImageError, type Storage } from '@img/core'
import { isToy } from '../toy/file.js'
import { makeToy, toy } from '../toy/format.js'
import { ToyWriter } from '../toy/writer.js'
import { type Broken, withFormat, withMap } from './support.js'

async function header(storage: Storage, length = 64): Promise<DataView> {
  const bytes = new Uint8Array(length)
  await storage.read(0, bytes.subarray(0, Math.min(length, storage.size)))
  return new DataView(bytes.buffer)
}

/** Leaves room for the metadata before the data, so that data is what stands last in the file. */
class FrontWriter extends ToyWriter {
  constructor(...parts: ConstructorParameters<typeof ToyWriter>) {
    super(...parts)
    this.next += 16384
  }

  protected override rootAt(): number {
    return this.clusterSize
  }
}

/** Faults that only damaged images, and those made to harm, bring to light. */
export const hostile: readonly Broken[] = [
  {
    what: 'throws a plain Error on garbage',
    format: withFormat({
      async open(storage, context) {
        try {
          return await toy.open(storage, context)
        } catch (error) {
          if (ImageError.is(error, 'IMG_CORRUPT')) throw new Error('this image is damaged')
          throw error
        }
      },
    }),
    fault: /opening it threw Error: this image is damaged; expected an ImageError/,
  },
  {
    what: 'reads fields before it knows that they are there',
    format: withFormat({
      async open(storage, context) {
        const bytes = new Uint8Array(Math.min(storage.size, 36))
        await storage.read(0, bytes, context)
        new DataView(bytes.buffer).getUint32(32)
        return toy.open(storage, context)
      },
    }),
    fault: /cut to \d+ bytes: opening it threw RangeError/,
  },
  {
    what: 'writes when opened to be read',
    format: withFormat({
      async open(storage, context) {
        const driver = await toy.open(storage, context)
        await storage.write?.(36, new Uint8Array([1])).catch(() => undefined)
        return driver
      },
    }),
    fault: /write at 36 of image of the test, which was opened to be read only/,
  },
  {
    what: 'loops on an image that is cut short',
    format: withFormat({
      async open(storage, context) {
        for (;;) {
          try {
            return await toy.open(storage, context)
          } catch (error) {
            if (!ImageError.is(error, 'IMG_TRUNCATED')) throw error
          }
          await storage.read(0, new Uint8Array(0))
        }
      },
    }),
    fault:
      /cut to \d+ bytes: it makes more than \d+ calls of the storage: a loop, or lengths that are not checked/,
  },
  {
    what: 'reads as many records as an image says that it has',
    format: withFormat({
      async open(storage, context) {
        const driver = await toy.open(storage, context)
        const count = (await header(storage)).getUint32(40)
        for (let i = 0; i < count; i++) await storage.read(0, new Uint8Array(16))
        return driver
      },
    }),
    fault: /it makes more than \d+ calls of the storage/,
  },
  {
    what: 'allocates by a length that it did not check',
    format: withFormat({
      async open(storage, context) {
        const view = await header(storage)
        if (view.getUint32(0) === 0x544f5949) {
          const length = view.getUint32(32)
          try {
            await storage.read(0, new Uint8Array(length).subarray(0, 1), context)
          } catch {
            throw new ImageError('IMG_CORRUPT', 'bad length')
          }
        }
        return toy.open(storage, context)
      },
    }),
    fault: /it allocates \d{8,} bytes \(Uint8Array\) at once; the budget is \d+/,
  },
  {
    what: 'reads zeros where the file is cut short',
    format: withMap(
      (map, _, storage) => ({
        async lookup(offset, length) {
          const run = await map.lookup(offset, length)
          if (run.kind !== 'data' || run.hostOffset + run.length <= storage.size) return run
          return { kind: 'zero', length: run.length }
        },
      }),
      makeToy({ Writer: FrontWriter }),
    ),
    fault: /cut to \d+ bytes: guest offset \d+ reads as 0x0 without complaint; it held 0x/,
  },
  {
    what: 'takes anything for an image',
    format: withFormat({
      async open(storage, context) {
        const view = await header(storage)
        if (isToy(new Uint8Array(view.buffer))) return toy.open(storage, context)
        return {
          size: storage.size,
          map: {
            clusterSize: 512,
            lookup: (hostOffset, length) => ({ kind: 'data', length, storage, hostOffset }),
          },
          info: () => ({}),
        }
      },
    }),
    fault: /an empty file opens as an image of this format/,
  },
]
