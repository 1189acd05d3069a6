import { makeToy, toy } from '../toy/format.js'
import { ToyWriter } from '../toy/writer.js'
import { type Broken, withDriver, withFormat } from './support.js'

/** Faults of opening and closing. */
export const lifecycle: readonly Broken[] = [
  {
    what: 'closes a file that is not its own',
    format: withDriver((_, storage) => ({ close: () => storage.close() })),
    fault: /the driver closed the storage that it was given/,
  },
  {
    what: 'closes a file that is not its own where opening fails',
    format: withFormat({
      async open(storage, context) {
        try {
          return await toy.open(storage, context)
        } catch (error) {
          await storage.close()
          throw error
        }
      },
    }),
    fault: /closed the storage that it was given, where opening failed/,
  },
  {
    what: 'leaves its data file open',
    format: withDriver(() => ({ close: () => Promise.resolve() })),
    subject: { options: [{ data_file: 'guest.data' }] },
    fault: /guest\.data was left open/,
  },
  {
    what: 'has a writer that is closed only once',
    format: makeToy({
      Writer: class extends ToyWriter {
        override async close(): Promise<void> {
          if (this.closed) throw new TypeError('the writer is closed')
          await super.close()
        }
      },
    }),
    fault: /closing the writer again failed with TypeError: the writer is closed/,
  },
  {
    what: 'has a writer that goes on after it was closed',
    format: makeToy({
      Writer: class extends ToyWriter {
        override async close(): Promise<void> {
          if (this.data !== this.target) await this.data.close()
        }
      },
    }),
    fault: /finish succeeded after the writer was closed/,
  },
  {
    what: 'shares what it has opened between two openings',
    format: (() => {
      const open = new Map<string, ReturnType<typeof toy.open>>()
      return withFormat({
        open(storage, context) {
          const known = open.get(storage.label) ?? toy.open(storage, context)
          open.set(storage.label, known)
          return known
        },
      })
    })(),
    fault: /IMG_CLOSED|the disk is \d+ bytes long/,
  },
]
