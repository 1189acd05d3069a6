import { toy } from '../toy/format.js'
import { type Broken, withFormat } from './support.js'

const measure = toy.measure as NonNullable<typeof toy.measure>

/** Faults of measuring. */
export const measureFaults: readonly Broken[] = [
  {
    what: 'measures too little',
    format: withFormat({
      async measure(spec) {
        const { required, fullyAllocated } = await measure(spec)
        return { required: required - 512, fullyAllocated }
      },
    }),
    fault: /the image takes \d+ bytes, measured were \d+/,
  },
  {
    what: 'needs more for some data than for all',
    format: withFormat({
      async measure(spec) {
        const { required } = await measure(spec)
        return { required, fullyAllocated: required - 1 }
      },
    }),
    fault: /required \(\d+\) is more than fullyAllocated \(\d+\)/,
  },
  {
    what: 'measures halves of bytes',
    format: withFormat({
      async measure(spec) {
        const { required, fullyAllocated } = await measure(spec)
        return { required: required + 0.5, fullyAllocated: fullyAllocated + 1 }
      },
    }),
    fault: /required is \d+\.5/,
  },
]
