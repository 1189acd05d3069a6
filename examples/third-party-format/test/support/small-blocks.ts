import { type MemoryStorage, memoryStorage } from '@img/core'
import { copy, create, type Files, patchHeader } from './images.js'

/** A disk with small blocks, so that a few writes touch many of them. */
export async function smallBlocks(
  size: number,
  blockSize: number,
  options: Readonly<Record<string, unknown>>,
  files: Files,
): Promise<MemoryStorage> {
  const target = await create(size, options, files)
  const file = copy(target)
  const entries = Math.ceil(size / blockSize)
  const [tableOffset] = [file.length - 512]
  const grown = new Uint8Array(tableOffset + Math.ceil((entries * 4) / 512) * 512 + 512).fill(0xff)
  grown.set(file.subarray(0, tableOffset))
  grown.set(file.subarray(-512), grown.length - 512)
  patchHeader(grown, (view) => {
    view.setUint32(20, tableOffset)
    view.setUint32(28, entries)
    view.setUint32(32, blockSize)
  })
  return memoryStorage(grown, { label: 'disk.vhd' })
}
