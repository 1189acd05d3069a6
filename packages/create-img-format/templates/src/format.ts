import { type Driver, defineFormat, ImageError, isWritable, type OpenContext, type Storage } from '@img/core'
import { WritableTableMap } from './allocate.js'
import { create, createOptions } from './create.js'
import { isImage, magic, readHeader } from './header.js'
import { readTable, TableMap } from './mapping.js'

async function open(storage: Storage, context: OpenContext): Promise<Driver> {
  const header = await readHeader(storage, context)
  const entries = await readTable(storage, header, context)
  const { size, clusterSize } = header
  const info = () => ({ clusterSize })
  if (!context.writable) return { size, info, map: new TableMap(storage, header, entries) }
  if (!isWritable(storage)) {
    const details = { format: 'tiny', source: storage.label }
    throw new ImageError('IMG_READ_ONLY', `${storage.label} cannot be written`, details)
  }
  return { size, info, map: new WritableTableMap(storage, header, entries) }
}

/** Tiny disk images: a header, a table, clusters. */
export const tinyFormat = defineFormat({
  apiVersion: 1,
  name: 'tiny',
  title: 'Tiny disk image',
  extensions: ['.tiny'],
  magic: [{ offset: 0, hex: magic }],
  probe: { head: 8, matches: ({ head }) => isImage(head) },
  open,
  createOptions,
  create,
})
