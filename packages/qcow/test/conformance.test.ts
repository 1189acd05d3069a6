import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { qcow } from '../src/format.js'

formatConformance(
  { describe, it },
  { format: qcow, options: [{}], needs: { backing_fmt: { backing_file: 'base' } } },
)
