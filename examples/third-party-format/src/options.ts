import type { BoolOption, EnumOption, StringOption } from '@img/core'
import type { SizeSource } from './geometry.js'

/** How an image is opened, under qemu's names. */
export const openOptions: { readonly force_size_calc: EnumOption<SizeSource> } = {
  force_size_calc: {
    kind: 'oneOf',
    values: ['auto', 'chs', 'current_size'],
    default: 'auto',
    help: 'Take the disk size from the geometry (chs) or from the size field (current_size), whatever the creator',
  },
}

/** How an image is made, under qemu-img's names; `backing_file` makes a differencing disk, which qemu-img cannot. */
export const createOptions: {
  readonly subformat: EnumOption<'dynamic' | 'fixed'>
  readonly force_size: BoolOption & { readonly default: boolean }
  readonly backing_file: StringOption
  readonly backing_fmt: StringOption
} = {
  subformat: {
    kind: 'oneOf',
    values: ['dynamic', 'fixed'],
    default: 'dynamic',
    help: 'Type of virtual hard disk: dynamic grows with its data, fixed takes its whole size',
  },
  force_size: {
    kind: 'bool',
    default: false,
    help: 'Keep the size exactly as given; otherwise it is rounded up to what a CHS geometry can say',
  },
  backing_file: { kind: 'string', help: 'The parent: makes a differencing disk' },
  backing_fmt: { kind: 'string', help: 'Format of the parent: vpc, there is no other' },
}
