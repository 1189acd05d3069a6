import type { CreateContext, CreateSpec, ImageWriter, WritableStorage } from '@img/core'
import { askedSize, newImage, storedSize } from './new-image.js'
import { Qcow2Writer } from './writer.js'

/**
 * Starts a new image.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_REFERENCE_DENIED, IMG_NO_SPACE, IMG_IO.
 */
export async function createQcow2(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const image = newImage(spec.options, spec.compress)
  const size = askedSize(spec)
  if (size !== undefined) storedSize(size, image)
  const { dataFile } = image
  const data =
    dataFile === undefined
      ? undefined
      : await context.createReference({ kind: 'data', name: dataFile, format: 'raw' })
  const writer = new Qcow2Writer(image, target, data, size, spec.compress === true, context)
  try {
    if (image.encryption !== undefined) {
      const { newEncryption } = await import('./encryption.js')
      const at = image.clusterSize
      writer.encryptBy(
        await newEncryption(image.encryption, spec.options, data ?? target, target.label, at, context),
      )
    }
    await writer.start()
  } catch (error) {
    await writer.close()
    throw error
  }
  return writer
}
