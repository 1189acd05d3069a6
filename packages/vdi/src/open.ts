import type { Driver, OpenContext, Reference, Storage } from '@img/core'
import { type BlockMap, readBlockMap } from './block-map.js'
import { vdiError } from './errors.js'
import { type Header, ImageType, readHeader, uuidMagic } from './header.js'
import { describeImage } from './info.js'
import { VdiMap } from './mapping.js'
import { ParentCheck } from './parent.js'
import { nullUuid } from './uuid.js'

/** What an opened image is made of. */
export interface VdiParts {
  readonly storage: Storage
  readonly map: BlockMap
  readonly backing: Reference | undefined
  /** Told which file the parent is. */
  readonly parent: ParentCheck
}

/**
 * Opens an image. Its parent is only named: by the file name given with the option `parent`, or else by its UUID.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE,
 * IMG_READ_ONLY, IMG_REFERENCE_MISSING.
 */
export async function openVdi(storage: Storage, context: OpenContext): Promise<Driver> {
  const header = await readHeader(storage, context)
  const backing = parentOf(header, context, storage.label)
  if (context.inspect && !context.writable) return describedOnly(storage, header, backing)
  const map = await readBlockMap(storage, header, context)
  const parts: VdiParts = { storage, map, backing, parent: new ParentCheck(storage.label, header) }
  if (context.writable) {
    // Loaded when needed: most runs only read.
    const { openWritable } = await import('./write-driver.js')
    return openWritable(parts, context)
  }
  const { info, holes } = shared(header)
  return {
    size: header.size,
    backing,
    holes,
    map: new VdiMap(storage, map, backing !== undefined),
    info,
    checkBacking: (image) => parts.parent.check(image),
    async check(options) {
      const { checkImage } = await import('./check.js')
      return checkImage(storage, map, undefined, options)
    },
  }
}

/** What every opened image tells. Blocks of a fixed image may be holes of the host: QEMU shows these, too. */
export function shared(header: Header): Pick<Driver, 'info' | 'holes'> {
  return {
    info: () => describeImage(header),
    holes: header.type === ImageType.fixed ? 'mark' : undefined,
  }
}

function describedOnly(storage: Storage, header: Header, backing: Reference | undefined): Driver {
  const lookup = (): never => {
    throw vdiError('IMG_UNSUPPORTED', 'it was opened only to be described', storage.label)
  }
  return {
    ...shared(header),
    size: header.size,
    backing,
    map: { clusterSize: header.blockSize, lookup },
  }
}

/** An undo image that names no parent is one of its own. */
function parentOf(header: Header, context: OpenContext, source: string): Reference | undefined {
  const { type, uuidLink } = header
  if (type !== ImageType.differencing && type !== ImageType.undo) return undefined
  const { parent } = context.options as { readonly parent?: string | undefined }
  if (parent !== undefined && parent !== '') return { kind: 'parent', name: parent, format: 'vdi' }
  if (uuidLink !== nullUuid) {
    return { kind: 'parent', name: uuidLink, format: 'vdi', signatures: uuidMagic(uuidLink) }
  }
  if (type === ImageType.undo || context.repair === true) return undefined
  throw vdiError(
    'IMG_REFERENCE_MISSING',
    'a differencing image that does not name its parent',
    source,
    424,
    'name the parent: --open parent=FILE',
  )
}
