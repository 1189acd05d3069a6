import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { qcow2 } from '../src/format.js'

// Deriving a key at every opening takes most of the time: less is tried than of images that are not encrypted.
formatConformance(
  { describe, it },
  {
    format: qcow2,
    // The first is for what encrypted images refuse: streams, compression.
    options: [
      { cluster_size: 4096 },
      { 'encrypt.format': 'luks', 'encrypt.iter-time': 1, cluster_size: 4096 },
      { 'encrypt.format': 'aes', cluster_size: 4096 },
    ],
    secret: () => new TextEncoder().encode('correct horse'),
    sizes: [300_000, 2 ** 32 + 65536],
    depth: 0.05,
    needs: {
      data_file_raw: { data_file: 'data.raw' },
      backing_fmt: { backing_file: 'base' },
      refcount_bits: { compat: '1.1' },
    },
  },
)
