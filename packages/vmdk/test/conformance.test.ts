import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { vmdk } from '../src/format.js'

formatConformance(
  { describe, it },
  {
    format: vmdk,
    options: [{}, { zeroed_grain: true, grain_size: 8192 }, { subformat: 'streamOptimized' }],
    needs: {
      backing_fmt: { backing_file: 'base', backing_fmt: 'vmdk' },
      compression_level: { subformat: 'streamOptimized' },
    },
  },
)
