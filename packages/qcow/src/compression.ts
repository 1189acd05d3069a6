import type { CompressionSpec } from '@img/core'

/** How clusters are compressed: DEFLATE without a header; readers refuse distances beyond 12 bits. */
export const compression: CompressionSpec = { codec: 'deflate-raw', windowBits: 12 }
