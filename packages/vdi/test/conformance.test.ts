import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { vdi } from '../src/format.js'

formatConformance(
  { describe, it },
  {
    format: vdi,
    options: [{ block_size: 131072 }, { static: true, block_size: 131072 }],
    // A VDI image knows its parent by UUID only.
    openOptions: { parent: 'backing.img' },
    needs: { backing_fmt: { backing_file: 'backing.img' } },
  },
)
