import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { qcow2 } from '../src/format.js'

formatConformance(
  { describe, it },
  {
    format: qcow2,
    options: [
      {},
      { cluster_size: 512 },
      { compat: '0.10', cluster_size: 4096 },
      { extended_l2: true, cluster_size: 16384 },
      { data_file: 'guest.data', cluster_size: 4096 },
    ],
    secret: () => new TextEncoder().encode('correct horse'),
    needs: {
      data_file_raw: { data_file: 'data.raw' },
      backing_fmt: { backing_file: 'base' },
      refcount_bits: { compat: '1.1' },
    },
  },
)
