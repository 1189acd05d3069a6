import { ImageError, type OptionSpecs, type Preallocation, preallocations } from '@img/core'
import { DEFAULT_BLOCK_SIZE } from './limits.js'

/** Options of `create`: `size` and `static` are qemu-img's; VirtualBox has all that they stand for. */
export const createOptions: OptionSpecs = {
  size: { kind: 'size', help: 'Virtual disk size' },
  static: { kind: 'bool', default: false, help: 'VDI static (pre-allocated) image' },
  backing_file: { kind: 'string', help: 'File name of the parent, a VDI image' },
  backing_fmt: { kind: 'string', help: 'Image format of the parent: vdi' },
  block_size: {
    kind: 'size',
    default: DEFAULT_BLOCK_SIZE,
    announced: false,
    help: 'VDI block size: qemu-img opens 1M only',
  },
  preallocation: {
    kind: 'oneOf',
    values: preallocations,
    default: 'off',
    announced: false,
    help: 'Preallocation mode: anything but off makes the image static',
  },
}

/** Checked values of {@link createOptions}, defaults filled in. */
export interface CreateOptionValues {
  /** Bytes. */
  readonly size: number | undefined
  readonly static: boolean
  readonly backing_file: string | undefined
  readonly backing_fmt: string | undefined
  /** Bytes. */
  readonly block_size: number
  readonly preallocation: Preallocation
}

/** Options of `open`. */
export const openOptions: OptionSpecs = {
  parent: {
    kind: 'string',
    file: true,
    help: 'File name of the parent, where it is not to be found by its UUID',
  },
}

/** IMG_BAD_OPTION. */
export function badOption(message: string, hint?: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: 'vdi', hint })
}
