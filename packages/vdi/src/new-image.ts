import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  ImageError,
  isPowerOfTwo,
  type Preallocation,
} from '@img/core'
import { badOption, type CreateOptionValues } from './create-options.js'
import { HEADER_BYTES, type Header, ImageType, newHeader } from './header.js'
import { MAX_BLOCKS, MAX_WRITTEN_BLOCK_SIZE, MIN_NEW_BLOCK_SIZE, SECTOR } from './limits.js'
import { readIdentity } from './parent.js'
import { blocksOf } from './write-image.js'

/** Bytes to which the first block is aligned. */
const DATA_ALIGN = 4096
/** Blocks that there is room for in the map where the size is not known: with blocks of 1 MiB, 1 TiB. */
const UNKNOWN_BLOCKS: number = 2 ** 20

/** What a new image is to be, checked. */
export interface NewImage {
  /** The header but for size, blocks and allocated. */
  readonly header: Header
  readonly fixed: boolean
  readonly preallocation: Preallocation
  /** Bytes; undefined where only the end will tell. */
  readonly size: number | undefined
}

/**
 * Checks create options.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE.
 */
export function newImage(spec: CreateSpec): NewImage {
  const options = spec.options as unknown as CreateOptionValues
  const { block_size: blockSize, preallocation, backing_file: backing } = options
  if (spec.compress === true) {
    throw new ImageError('IMG_UNSUPPORTED', 'Compression not supported for this file format', {
      format: 'vdi',
    })
  }
  if (!isPowerOfTwo(blockSize) || blockSize < MIN_NEW_BLOCK_SIZE || blockSize > MAX_WRITTEN_BLOCK_SIZE) {
    throw badOption('Block size must be a power of two between 128k and 128M')
  }
  if (backing === '') throw badOption('a file name cannot be empty')
  if (options.backing_fmt !== undefined && options.backing_fmt !== 'vdi') {
    throw badOption(`the parent of a VDI image has to be a VDI image, not ${options.backing_fmt}`)
  }
  const fixed = options.static || preallocation !== 'off'
  if (fixed && backing !== undefined) throw badOption('a fixed image cannot have a parent')
  if (options.size !== undefined && spec.size !== undefined && options.size !== spec.size) {
    throw badOption('The image size must be specified only once')
  }
  const asked = spec.size ?? options.size
  const size = asked === undefined ? undefined : alignUp(asked, SECTOR)
  const type = backing !== undefined ? ImageType.differencing : fixed ? ImageType.fixed : ImageType.dynamic
  const header = newHeader(type, blockSize)
  const blocks = size === undefined ? UNKNOWN_BLOCKS : newBlocks(size, blockSize)
  return { header: { ...header, dataOffset: dataOffset(blocks) }, fixed, preallocation, size }
}

/** Blocks of a disk. @throws {ImageError} IMG_UNSUPPORTED_SIZE. */
export function newBlocks(size: number, blockSize: number): number {
  const blocks = blocksOf(size, blockSize)
  if (blocks <= MAX_BLOCKS) return blocks
  throw new ImageError(
    'IMG_UNSUPPORTED_SIZE',
    `Unsupported VDI image size (size is ${size}, max supported is ${MAX_BLOCKS * blockSize})`,
    { format: 'vdi', hint: 'take larger blocks' },
  )
}

/** Where the first block stands, behind a map of so many entries. */
export function dataOffset(blocks: number): number {
  return alignUp(HEADER_BYTES + blocks * 4, DATA_ALIGN)
}

/** The header with what is taken over from the parent. @throws {ImageError} as `readIdentity`. */
export async function withParent(
  header: Header,
  options: Readonly<Record<string, unknown>>,
  context: CreateContext,
): Promise<Header> {
  const { backing_file: name } = options as unknown as CreateOptionValues
  if (name === undefined) return header
  const storage = await context.openReference({ kind: 'parent', name, format: 'vdi' })
  try {
    const { uuidCreate, uuidModify } = await readIdentity(storage, context)
    return { ...header, uuidLink: uuidCreate, uuidParentModify: uuidModify }
  } finally {
    await storage.close()
  }
}
