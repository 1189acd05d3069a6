import { makeToy, toy } from '../toy/format.js'
import { ToyWriter } from '../toy/writer.js'
import { type Broken, withFormat, withWriter } from './support.js'

const create = toy.create as NonNullable<typeof toy.create>

/** Faults of making images. */
export const createFaults: readonly Broken[] = [
  {
    what: 'takes an option that was not given for its name',
    format: withFormat({
      create: (target, spec, context) =>
        create(
          target,
          { ...spec, options: { ...spec.options, backing_file: String(spec.options.backing_file) } },
          context,
        ),
    }),
    fault: /IMG_REFERENCE_MISSING: image of the test: backing file "undefined" is not to be opened/,
  },
  {
    what: 'does not know one of its own values',
    format: withFormat({
      create(target, spec, context) {
        if (spec.options.cluster_size === 65536) throw new RangeError('too large')
        return create(target, spec, context)
      },
    }),
    fault: /starting an image with cluster_size=65536 failed with RangeError: too large/,
  },
  {
    what: 'writes down another cluster size than it was asked for',
    format: makeToy({
      Writer: class extends ToyWriter {
        override finish(options: Parameters<ToyWriter['finish']>[0]): ReturnType<ToyWriter['finish']> {
          Object.assign(this.root, { clusterSize: 1024 })
          return super.finish(options)
        }
      },
    }),
    fault: /making an image with cluster_size=512 failed with ImageError IMG_CORRUPT/,
  },
  {
    what: 'gives the same room twice',
    format: makeToy({
      Writer: class extends ToyWriter {
        override place(offset: number, length: number): ReturnType<ToyWriter['place']> {
          const placed = super.place(offset, length)
          if (offset === 0) this.next -= this.clusterSize
          return placed
        }
      },
    }),
    fault: /place\(\d+, \d+\) placed data at \d+ of image of the test, where other data was placed before/,
  },
  {
    what: 'places more than it was asked for',
    format: withWriter((writer) => ({
      place: async (offset, length) => ({ ...(await writer.place(offset, length)), length: length + 512 }),
    })),
    fault: /placed \d+ bytes: from 1 to \d+ are due/,
  },
  {
    what: 'forgets the cluster that ends the disk',
    format: makeToy({
      Writer: class extends ToyWriter {
        override finish(options: Parameters<ToyWriter['finish']>[0]): ReturnType<ToyWriter['finish']> {
          const size = options?.size ?? this.root.size
          if (size % this.clusterSize !== 0) this.root.entries.length = Math.floor(size / this.clusterSize)
          return super.finish(options)
        }
      },
    }),
    fault: /an image of \d+ bytes: guest offset \d+ reads as 0x00/,
  },
  {
    what: 'cuts offsets to 32 bits',
    format: makeToy({
      Writer: class extends ToyWriter {
        override place(offset: number, length: number): ReturnType<ToyWriter['place']> {
          return super.place(offset % 2 ** 31, length)
        }
      },
    }),
    subject: { sizes: [2 ** 31 + 65536 * 2], options: [{ cluster_size: 65536 }] },
    fault: /an image of 2147614720 bytes: guest offset \d+ reads as/,
  },
  {
    what: 'records compressed clusters too short',
    format: makeToy({
      Writer: class extends ToyWriter {
        override placeCompressed(
          offset: number,
          hostLength: number,
        ): ReturnType<ToyWriter['placeCompressed']> {
          const placed = super.placeCompressed(offset, hostLength)
          const entry = this.root.entries[offset / this.clusterSize]
          Object.assign(entry ?? {}, { packed: Math.ceil(hostLength / 2) })
          return placed
        }
      },
    }),
    fault: /a compressed image: reading .* failed with ImageError IMG_CORRUPT/,
  },
  {
    what: 'does not take the size that only the end tells',
    format: makeToy({
      Writer: class extends ToyWriter {
        override finish({ signal }: NonNullable<Parameters<ToyWriter['finish']>[0]> = {}): Promise<void> {
          return super.finish({ signal })
        }
      },
    }),
    fault:
      /opening the image failed with ImageError IMG_CORRUPT: image of the test: 11 entries for 0 clusters/,
  },
  {
    what: 'makes an empty image with what the file held before',
    format: makeToy({
      Writer: class extends ToyWriter {
        override finish(options: Parameters<ToyWriter['finish']>[0]): ReturnType<ToyWriter['finish']> {
          if (this.root.entries.length === 0) this.set(0, { kind: 'data', host: 512, packed: 0 })
          return super.finish(options)
        }
      },
    }),
    fault: /an empty image/,
  },
]
