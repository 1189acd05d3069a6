import type { AmendContext } from '@img/core'
import { amendLuks, type LuksAmendOptions } from '@img/crypto'
import { badOption } from './create-options.js'
import { belowEncrypt } from './encrypt-options.js'
import type { WritableImage } from './write-image.js'

/**
 * Adds or erases key slots of an image.
 * @throws {ImageError} as {@link amendLuks}; IMG_BAD_OPTION for an image without LUKS.
 */
export async function amendKeySlots(
  { image, storage }: Pick<WritableImage, 'image' | 'storage'>,
  options: Readonly<Record<string, unknown>>,
  context: AmendContext,
): Promise<void> {
  const luks = image.encryption?.luks
  if (luks === undefined) throw badOption('Only LUKS encryption options can be amended')
  luks.header = await amendLuks(
    storage,
    luks.header,
    luks.key,
    belowEncrypt(options) as LuksAmendOptions,
    context,
  )
}
