import { viewOf, writeU64LE } from '@img/core'
import { blockValue, encodeNode, type NodeContent, sealBlock } from '../../src/btree-node.js'
import { BLOCK, blockKind } from '../../src/metadata-block.js'
import { encodeEntry, perBitmap, writeSpaceMapRoot } from '../../src/space-map.js'

/** Where everything is in the metadata of a new pool. */
const at = { mappings: 1, device: 2, details: 3, data: 4, dataBitmap: 5, dataCounts: 6 } as const
const own = { index: 7, bitmap: 8, counts: 9, used: 10 } as const

/** Metadata of a pool with device 1, which maps nothing. `metadataBlocks`, `dataBlocks`: one bitmap each at most. */
export function newThinPool(metadataBlocks: number, dataBlocks: number, chunk: number): Uint8Array {
  const bytes = new Uint8Array(metadataBlocks * BLOCK)
  const put = (block: number, content: Uint8Array): void => bytes.set(content, block * BLOCK)
  const node = (block: number, values: NodeContent['values'], keys: number[], valueBytes: number): void =>
    put(block, encodeNode(block, { leaf: true, keys, values }, valueBytes))
  node(at.mappings, [blockValue(at.device)], [1], 8)
  node(at.device, [], [], 8)
  node(at.details, [new Uint8Array(24)], [1], 24)
  const entry = { block: at.dataBitmap, free: dataBlocks, firstFree: 0 }
  node(at.data, [encodeEntry(entry)], [0], 16)
  put(at.dataBitmap, sealBlock(new Uint8Array(BLOCK), at.dataBitmap, blockKind.bitmap))
  node(at.dataCounts, [], [], 4)
  const index = new Uint8Array(BLOCK)
  const free = metadataBlocks - own.used
  index.set(encodeEntry({ block: own.bitmap, free, firstFree: own.used }), 16)
  put(own.index, sealBlock(index, own.index, blockKind.index))
  const bitmap = new Uint8Array(BLOCK)
  // Two bits a block, of which the one of value two comes first.
  for (let block = 0; block < own.used; block++) {
    const place = 16 + Math.floor(block / 4)
    bitmap[place] = (bitmap[place] as number) + 2 * 4 ** (block % 4)
  }
  put(own.bitmap, sealBlock(bitmap, own.bitmap, blockKind.bitmap))
  node(own.counts, [], [], 4)
  put(0, superblock(metadataBlocks, dataBlocks, chunk))
  return bytes
}

function superblock(metadataBlocks: number, dataBlocks: number, chunk: number): Uint8Array {
  if (Math.max(metadataBlocks, dataBlocks) > perBitmap) throw new RangeError('one bitmap is not enough')
  const bytes = new Uint8Array(BLOCK)
  const view = viewOf(bytes)
  writeU64LE(view, 32, 27022010)
  view.setUint32(40, 2, true)
  const data = { blocks: dataBlocks, allocated: 0, bitmaps: at.data, counts: at.dataCounts }
  writeSpaceMapRoot(view, 64, data)
  const metadata = { blocks: metadataBlocks, allocated: own.used, bitmaps: own.index, counts: own.counts }
  writeSpaceMapRoot(view, 192, metadata)
  writeU64LE(view, 320, at.mappings)
  writeU64LE(view, 328, at.details)
  view.setUint32(336, chunk / 512, true)
  view.setUint32(340, BLOCK / 512, true)
  writeU64LE(view, 344, metadataBlocks)
  return sealBlock(bytes, 0, blockKind.thinSuperblock)
}
