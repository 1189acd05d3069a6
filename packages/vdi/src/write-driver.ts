import type { CompactOptions, Driver, IoOptions, OpenContext, Reference, ResizeOptions } from '@img/core'
import { vdiError } from './errors.js'
import { ImageType } from './header.js'
import { FREE } from './limits.js'
import { shared, type VdiParts } from './open.js'
import { readIdentity, tellIdentity } from './parent.js'
import { nullUuid } from './uuid.js'
import { WritableImage } from './write-image.js'
import { WritableMap } from './write-map.js'

/**
 * The driver of an image that is to be changed. Nothing is written before the first change.
 * @throws {ImageError} IMG_READ_ONLY, IMG_UNSUPPORTED, IMG_CORRUPT, IMG_TRUNCATED.
 */
export async function openWritable(parts: VdiParts, context: OpenContext): Promise<Driver> {
  const { storage, backing, parent } = parts
  const image = await WritableImage.open(storage, parts.map, context.repair === true, context)
  const fixed = image.header.type === ImageType.fixed
  let hasParent = backing !== undefined
  // What was opened as parent is no longer it once another was named.
  let renamed = false
  const map = new WritableMap(image, () => hasParent, fixed)
  const damaged = parts.map.damage.values().next().value
  const driver: Driver = {
    ...shared(image.header),
    get size() {
      return image.header.size
    },
    backing,
    map,
    ...(damaged !== undefined && {
      unreadable: vdiError('IMG_CORRUPT', 'its block map is damaged', storage.label),
    }),
    checkBacking: (opened, options) => parent.check(opened, options),
    async resize(size: number, options: ResizeOptions) {
      const { resizeImage } = await import('./resize.js')
      await resizeImage(image, size, options)
      map.refresh()
    },
    async check(options) {
      const { checkImage } = await import('./check.js')
      const result = await checkImage(storage, parts.map, image, options)
      map.refresh()
      return result
    },
    async setBacking(reference: Reference | undefined, options?: IoOptions) {
      if (fixed && reference !== undefined) {
        throw vdiError('IMG_UNSUPPORTED', 'a fixed image cannot have a parent', storage.label)
      }
      const identity = reference && (await identify(reference, context))
      await image.begin()
      image.setHeader({
        type: identity ? ImageType.differencing : fixed ? ImageType.fixed : ImageType.dynamic,
        uuidLink: identity?.uuidCreate ?? nullUuid,
        uuidParentModify: identity?.uuidModify ?? nullUuid,
      })
      await image.settle(options)
      hasParent = reference !== undefined
      renamed = true
      map.refresh()
    },
    async compact(options?: CompactOptions) {
      const { compactImage } = await import('./compact.js')
      await compactImage(image, hasParent && !renamed ? parent.image : undefined, options)
    },
  }
  if (!fixed) {
    driver.empty = async (options) => {
      await image.begin()
      for (let block = 0; block < image.entries.length; block++) image.set(block, FREE)
      // What was committed changed the parent: this image knows it as it is now.
      const now = await parent.now(options)
      if (now !== undefined) image.setHeader({ uuidParentModify: now.uuidModify })
      await image.settle(options)
    }
  }
  tellIdentity(driver, () => image.header)
  return driver
}

async function identify(reference: Reference, context: OpenContext): ReturnType<typeof readIdentity> {
  const storage = await context.openReference({ ...reference, kind: 'parent' })
  try {
    return await readIdentity(storage, context)
  } finally {
    await storage.close()
  }
}
