import { readU64LE, type Storage, viewOf } from '@img/core'
import { BTree } from './btree.js'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import { BLOCK, blockKind, readBlock } from './metadata-block.js'
import { type Volume, volumeStorage } from './volume.js'

/** Octal 06142003. Source: Linux drivers/md/dm-cache-metadata.c, CACHE_SUPERBLOCK_MAGIC. */
const magic = 0o6142003

/** Header of a block of an array. Source: Linux drivers/md/persistent-data/dm-array.c, struct array_block. */
const arrayHeaderBytes = 24

/** A value: the origin's block, and flags in the low 16 bits, of which the lowest says that it is valid. */
const flagRange = 65536

interface Mapping {
  /** Bytes. */
  readonly chunk: number
  /** Block of the cache by block of the origin. */
  readonly blocks: ReadonlyMap<number, number>
}

/**
 * A cached volume: blocks that the cache holds are read from it, dirty or not; it is never older than the origin.
 * Source: Linux drivers/md/dm-cache-metadata.c.
 */
export function cacheVolume(
  name: string,
  origin: Volume,
  metadata: Volume,
  data: Volume,
  expected?: number,
): Volume {
  let loading: Promise<void> | undefined
  let mapping: Mapping | undefined
  const find = (offset: number, maxLength: number): ReturnType<Volume['lookup']> => {
    const { chunk, blocks } = mapping as Mapping
    const inside = offset % chunk
    const block = (offset - inside) / chunk
    const cached = blocks.get(block)
    if (cached !== undefined) {
      return data.lookup(cached * chunk + inside, Math.min(maxLength, chunk - inside))
    }
    let end = (block + 1) * chunk
    while (end < offset + maxLength && !blocks.has(end / chunk)) end += chunk
    return origin.lookup(offset, Math.min(maxLength, end - offset))
  }
  return {
    size: origin.size,
    missing: origin.missing || metadata.missing || data.missing,
    lookup(offset, maxLength) {
      if (mapping !== undefined) return find(offset, maxLength)
      loading ??= readMapping(name, metadata, data, expected).then((read) => {
        mapping = read
      })
      return loading.then(() => find(offset, maxLength))
    },
  }
}

async function readMapping(
  name: string,
  metadata: Volume,
  data: Volume,
  expected: number | undefined,
): Promise<Mapping> {
  const storage = volumeStorage(metadata, `${name} cache metadata`)
  try {
    const view = viewOf(await readBlock(storage, 0, blockKind.cacheSuperblock))
    if (readU64LE(view, 32) !== magic)
      throw lvmError('IMG_CORRUPT', `${name}: its cache metadata has no superblock`)
    const version = view.getUint32(40, true)
    if (version < 1 || version > 2)
      throw lvmError('IMG_UNSUPPORTED', `${name}: cache version ${version} is not known`)
    const chunk = view.getUint32(232, true) * SECTOR
    const count = view.getUint32(240, true)
    if (chunk === 0 || (expected !== undefined && chunk !== expected)) {
      throw lvmError(
        'IMG_CORRUPT',
        `${name}: its cache has blocks of ${chunk} bytes, lvm2's metadata says ${expected}`,
      )
    }
    if (count * chunk > data.size)
      throw lvmError('IMG_CORRUPT', `${name}: its cache has more blocks than its data holds`)
    return { chunk, blocks: await readArray(name, storage, readU64LE(view, 192), count) }
  } finally {
    await storage.close()
  }
}

/** The array of mappings: a tree of blocks, each with as many values as fit. */
async function readArray(
  name: string,
  storage: Storage,
  root: number,
  count: number,
): Promise<Map<number, number>> {
  const blocks = new Map<number, number>()
  const perBlock = Math.floor((BLOCK - arrayHeaderBytes) / 8)
  for await (const [index, block] of new BTree(storage, root).entries()) {
    const view = viewOf(await readBlock(storage, block, blockKind.array))
    const entries = view.getUint32(8, true)
    if (entries > perBlock || index * perBlock + entries > Math.max(count, perBlock)) {
      throw lvmError('IMG_CORRUPT', `${name}: block ${block} of its cache metadata has ${entries} entries`)
    }
    for (let at = 0; at < entries; at++) {
      const value = readU64LE(view, arrayHeaderBytes + at * 8)
      if (value % 2 !== 1) continue
      const origin = Math.floor(value / flagRange)
      if (blocks.has(origin)) throw lvmError('IMG_CORRUPT', `${name}: block ${origin} is in its cache twice`)
      blocks.set(origin, index * perBlock + at)
    }
  }
  return blocks
}
