import type { CreateContext, WritableStorage } from '@img/core'
import { type LuksOptions, legacyAesCipher, luksChoice, luksLength, newLuks } from '@img/crypto'
import { aesEncryption, aesWarning, type Encryption, luksEncryption } from './encrypt-open.js'
import { belowEncrypt, type EncryptFormat } from './encrypt-options.js'

/** The encryption of an image that is being made. */
export interface NewEncryption extends Encryption {
  /** What goes to the place that the header points at; absent with the legacy cipher. */
  readonly stored?: { readonly bytes: Uint8Array; readonly length: number }
}

/**
 * Makes the keys of a new image.
 * @param data where guest data goes
 * @param headerOffset where the LUKS header goes, in bytes of the image file
 * @throws {ImageError} IMG_BAD_OPTION, IMG_SECRET_MISSING.
 */
export async function newEncryption(
  format: NonNullable<EncryptFormat>,
  options: Readonly<Record<string, unknown>>,
  data: WritableStorage,
  source: string,
  headerOffset: number,
  context: CreateContext,
): Promise<NewEncryption> {
  const choice = format === 'luks' ? luksChoice(belowEncrypt(options) as LuksOptions, 'qcow2') : undefined
  const passphrase = await context.secret(options['encrypt.key-secret'] as string | undefined)
  if (choice === undefined) {
    context.warn(aesWarning, 'WARN_WEAK_ENCRYPTION')
    return aesEncryption(data, await legacyAesCipher(passphrase))
  }
  const place = { format: 'qcow2', source, offset: headerOffset }
  const { bytes, length, cipher } = await newLuks(choice, passphrase, place)
  return { ...luksEncryption(data, cipher), stored: { bytes, length } }
}

/**
 * Bytes of the LUKS header that a new image with these options gets.
 * @throws {ImageError} IMG_BAD_OPTION.
 */
export function newHeaderLength(options: Readonly<Record<string, unknown>>): number {
  return luksLength(luksChoice(belowEncrypt(options) as LuksOptions, 'qcow2'))
}
