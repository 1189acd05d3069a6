import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { cow } from '../src/format.js'
import { image32 } from './support/old-image.js'

const old = image32(40)

formatConformance(
  { describe, it },
  {
    format: cow,
    options: [{}],
    needs: { backing_fmt: { backing_file: 'base' } },
    samples: [
      {
        name: 'of the 32-bit layout',
        size: old.content.length,
        file: () => old.file,
        content: () => old.content,
      },
    ],
  },
)
