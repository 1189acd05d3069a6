import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { vpc } from '../src/format.js'
import { chooseSizing } from '../src/geometry.js'

for (const force_size of [false, true]) {
  formatConformance(
    { describe, it },
    {
      format: vpc,
      options: [{ force_size }, { force_size, subformat: 'fixed' }],
      virtualSize: (requested) => chooseSizing(requested, force_size).size,
    },
  )
}
