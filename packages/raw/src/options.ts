import type { EnumOption, SizeOption } from '@img/core'

/** How a raw image is opened: a window into a larger file, as qemu's raw driver has it. */
export const openOptions: { readonly offset: SizeOption; readonly size: SizeOption } = {
  offset: { kind: 'size', help: 'First byte of the disk in the file' },
  size: { kind: 'size', help: 'Bytes of the disk, taken exactly' },
}

/** How a raw image is made. */
export const createOptions: { readonly preallocation: EnumOption<'off' | 'falloc' | 'full'> } = {
  preallocation: {
    kind: 'oneOf',
    values: ['off', 'falloc', 'full'],
    default: 'off',
    announced: false,
    help: 'Preallocation mode (allowed values: off, falloc, full)',
  },
}
