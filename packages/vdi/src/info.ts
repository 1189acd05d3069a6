import type { FormatInfo } from '@img/core'
import { type Header, typeNames } from './header.js'
import { nullUuid } from './uuid.js'

/** What an image tells of itself. qemu-img shows the block size only. */
export function describeImage(header: Header): FormatInfo {
  const { uuidLink, uuidParentModify, comment, geometry } = header
  const { cylinders, heads, sectors } = geometry
  return {
    clusterSize: header.blockSize,
    dirty: false,
    extra: {
      version: header.version === 1 ? '0.1' : header.headerSize >= 400 ? '1.1+' : '1.1',
      type: typeNames[header.type],
      ...(comment !== '' && { comment }),
      'block-extra': header.blockExtra,
      blocks: header.blocks,
      'blocks-allocated': header.allocated,
      uuid: header.uuidCreate,
      'uuid-modified': header.uuidModify,
      ...(uuidLink !== nullUuid && { 'uuid-parent': uuidLink }),
      ...(uuidParentModify !== nullUuid && { 'uuid-parent-modified': uuidParentModify }),
      ...(cylinders > 0 && { geometry: { cylinders, heads, sectors } }),
    },
  }
}
