import { makeToy, toy } from '../toy/format.js'
import { WritableToyMap } from '../toy/map.js'
import { ToyWriter } from '../toy/writer.js'
import { type Broken, withDriver, withFormat, withMap } from './support.js'

/** Faults of overlays. */
export const chains: readonly Broken[] = [
  {
    what: 'forgets that it has a backing file',
    format: withDriver(() => ({ backing: undefined }) as never),
    fault: /guest offset 0 reads as 0x00, expected/,
  },
  {
    what: 'shows the backing file where zeros were written',
    format: makeToy({
      Writer: class extends ToyWriter {
        override zero(): void {
          // Says nothing, and so lets the backing file through.
        }
      },
    }),
    fault: /guest offset \d+ reads as 0x[0-9a-f]+, expected 0x00/,
  },
  {
    what: 'shows zeros where the backing file should show',
    format: withMap((map) => ({
      async lookup(offset, length) {
        const run = await map.lookup(offset, length)
        return run.kind === 'unallocated' ? { kind: 'zero', length: run.length } : run
      },
    })),
    fault: /guest offset 0 reads as 0x00, expected/,
  },
  {
    what: 'copies nothing up from the backing file',
    format: makeToy({
      Map: class extends WritableToyMap {
        override async allocate(offset: number, length: number): ReturnType<WritableToyMap['allocate']> {
          const { fill: _, ...room } = await super.allocate(offset, length)
          return room
        }
      },
    }),
    fault: /after writing less than a cluster: guest offset \d+ reads as/,
  },
  {
    what: 'refuses overlays although it has the option',
    format: withFormat({
      create(target, spec, context) {
        if (spec.options.backing_file !== undefined) throw new TypeError('no overlays')
        return (toy.create as NonNullable<typeof toy.create>)(target, spec, context)
      },
    }),
    fault: /making an overlay of \d+ bytes over toy failed with TypeError: no overlays/,
  },
  {
    what: 'takes any backing file although it records one',
    format: withDriver(() => ({ checkBacking: () => undefined })),
    fault: /opening an overlay over another backing file succeeded; expected ImageError IMG_CORRUPT/,
  },
  {
    what: 'grows into its larger backing file',
    format: withDriver(
      (driver) => ({
        map: driver.map,
        get size() {
          return driver.size
        },
        resize: async (size, options) => {
          await driver.resize?.(size, options)
        },
      }),
      makeToy({
        Map: class extends WritableToyMap {
          override zero(offset: number, length: number): void {
            super.discard(offset, 0)
            if (length === 0) super.zero(offset, 0)
          }
        },
      }),
    ),
    fault: /guest offset \d+ reads as 0x[0-9a-f]+, expected 0x00/,
  },
]
