import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { vpc } from '../src/format.js'
import { chooseSizing } from '../src/geometry.js'

formatConformance(
  { describe, it },
  {
    format: vpc,
    options: [{}, { subformat: 'fixed' }, { force_size: true }],
    virtualSize: (requested, { force_size }) => chooseSizing(requested, force_size === true).size,
  },
)
