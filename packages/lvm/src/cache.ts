import { type IoOptions, readU64LE, type Storage, viewOf } from '@img/core'
import { BTree } from './btree.js'
import { sealBlock } from './btree-node.js'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import { BLOCK, blockKind, readBlock } from './metadata-block.js'
import { nextKey } from './search.js'
import { type Volume, volumeStorage } from './volume.js'
import type { Disks, Marks } from './write-target.js'

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
  disks?: Disks,
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
    const end = nextKey(blocks, block + 1, Math.ceil((offset + maxLength) / chunk)) * chunk
    return origin.lookup(offset, Math.min(maxLength, end - offset))
  }
  const load = (): Promise<void> => {
    loading ??= readMapping(name, metadata, data, expected).then((read) => {
      mapping = read
    })
    return loading
  }
  const marks = disks && new CacheMarks(disks, metadata, name)
  return {
    size: origin.size,
    missing: origin.missing || metadata.missing || data.missing,
    lookup(offset, maxLength) {
      if (mapping !== undefined) return find(offset, maxLength)
      return load().then(() => find(offset, maxLength))
    },
    async write(offset, bytes, options) {
      if (marks === undefined) throw lvmError('IMG_READ_ONLY', `${name} is not open for writing`)
      await load()
      const { chunk, blocks } = mapping as Mapping
      await marks.before(options)
      await marks.together(async () => {
        for (let done = 0; done < bytes.length; ) {
          const inside = (offset + done) % chunk
          const part = bytes.subarray(done, done + chunk - inside)
          const cached = blocks.get((offset + done - inside) / chunk)
          if (cached !== undefined) await data.write(cached * chunk + inside, part, options)
          await origin.write(offset + done, part, options)
          done += part.length
        }
      })
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

/**
 * What is written goes to the cache and to the origin. Until both have it, the cache is marked as not shut down cleanly: the
 * kernel then takes all that it holds for newer than the origin.
 * Source: Linux drivers/md/dm-cache-metadata.c (CLEAN_SHUTDOWN, NEEDS_CHECK).
 */
class CacheMarks implements Marks {
  readonly #disks: Disks
  readonly #metadata: Volume
  readonly #name: string
  #clean: boolean | undefined

  constructor(disks: Disks, metadata: Volume, name: string) {
    this.#disks = disks
    this.#metadata = metadata
    this.#name = name
    disks.add(this)
  }

  together(change: () => Promise<unknown>): Promise<void> {
    return this.#disks.together(change)
  }

  async before(options?: IoOptions): Promise<void> {
    if (this.#clean !== undefined) return
    const superblock = await this.#read()
    const flags = viewOf(superblock).getUint32(4, true)
    if ((flags & 2) !== 0) {
      throw lvmError(
        'IMG_UNSUPPORTED',
        `the cache of ${this.#name} is marked as in need of a check: it is not written`,
      )
    }
    if ((flags & 1) !== 0) {
      await this.#write(superblock, flags & ~1, options)
      await this.#disks.flush(options)
    }
    this.#clean = (flags & 1) !== 0
  }

  async clear(options?: IoOptions): Promise<void> {
    if (this.#clean !== true) return
    const superblock = await this.#read()
    await this.#write(superblock, viewOf(superblock).getUint32(4, true) | 1, options)
    this.#clean = undefined
  }

  async #read(): Promise<Uint8Array> {
    const storage = volumeStorage(this.#metadata, this.#name)
    const block = (await readBlock(storage, 0, blockKind.cacheSuperblock)).slice()
    await storage.close()
    return block
  }

  async #write(superblock: Uint8Array, flags: number, options?: IoOptions): Promise<void> {
    viewOf(superblock).setUint32(4, flags, true)
    await this.#metadata.write(0, sealBlock(superblock, 0, blockKind.cacheSuperblock), options)
  }
}
