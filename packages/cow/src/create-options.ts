import { ImageError, type OptionSpecs } from '@img/core'

/** Options of `create`, as QEMU 2.1 had them. */
export const createOptions: OptionSpecs = {
  size: { kind: 'size', help: 'Virtual disk size' },
  backing_file: { kind: 'string', help: 'File name of a base image' },
  backing_fmt: { kind: 'string', help: 'Format of the base image: not recorded' },
}

/** Checked values of {@link createOptions}. */
export interface CreateOptionValues {
  /** Bytes. */
  readonly size: number | undefined
  readonly backing_file: string | undefined
  readonly backing_fmt: string | undefined
}

/** IMG_BAD_OPTION. */
export function badOption(message: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: 'cow' })
}
