import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { qcow } from '../src/format.js'

formatConformance(
  { describe, it },
  {
    format: qcow,
    options: [{}, { 'encrypt.format': 'aes' }],
    secret: () => new TextEncoder().encode('a passphrase'),
    needs: { backing_fmt: { backing_file: 'base' }, 'encrypt.key-secret': { 'encrypt.format': 'aes' } },
  },
)
