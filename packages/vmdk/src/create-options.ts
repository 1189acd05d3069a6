import { type CreateSpec, ImageError, type OptionsOf } from '@img/core'
import { MAX_GD_ENTRIES, MAX_GTES, MAX_SECTORS, MAX_SPLIT_EXTENTS, SECTOR, SPLIT_SECTORS } from './limits.js'

/** Options of `create` under qemu-img's names, and `grain_size`. */
export const createOptions = {
  size: { kind: 'size', help: 'Virtual disk size' },
  adapter_type: {
    kind: 'oneOf',
    values: ['ide', 'buslogic', 'lsilogic', 'legacyESX'],
    help: 'Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX',
  },
  backing_file: { kind: 'string', help: 'File name of a base image' },
  backing_fmt: { kind: 'string', help: "Must be 'vmdk' if present" },
  compat6: { kind: 'bool', default: false, help: 'VMDK version 6 image' },
  hwversion: { kind: 'string', default: 'undefined', help: 'VMDK hardware version' },
  toolsversion: { kind: 'string', help: 'VMware guest tools version' },
  subformat: {
    kind: 'oneOf',
    values: [
      'monolithicSparse',
      'monolithicFlat',
      'twoGbMaxExtentSparse',
      'twoGbMaxExtentFlat',
      'streamOptimized',
    ],
    aliases: { '2GbMaxExtentSparse': 'twoGbMaxExtentSparse', '2GbMaxExtentFlat': 'twoGbMaxExtentFlat' },
    help: 'VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ',
  },
  zeroed_grain: {
    kind: 'bool',
    default: false,
    help: 'Enable efficient zero writes using the zeroed-grain GTE feature',
    announced: false,
  },
  grain_size: {
    kind: 'size',
    default: 65536,
    // Technote: greater than 8 sectors; libvmdk refuses smaller ones.
    min: 8192,
    max: 1048576,
    powerOfTwo: true,
    announced: false,
    help: 'Size of a grain, the unit of allocation',
  },
  compression_level: {
    kind: 'int',
    min: 0,
    max: 9,
    help: 'DEFLATE level of streamOptimized disks, 0 to 9 (default 6)',
  },
} as const

/** Checked values of {@link createOptions}. */
export type CreateOptionValues = OptionsOf<typeof createOptions>

/** A disk to be made. */
export interface NewDisk {
  readonly subformat:
    | 'monolithicSparse'
    | 'monolithicFlat'
    | 'twoGbMaxExtentSparse'
    | 'twoGbMaxExtentFlat'
    | 'streamOptimized'
  readonly flat: boolean
  readonly split: boolean
  readonly stream: boolean
  readonly zeroedGrain: boolean
  readonly grainSectors: number
  readonly level: number | undefined
  readonly backingFile: string | undefined
  readonly adapterType: string
  readonly hardwareVersion: string
  readonly toolsVersion: string
}

/** An option, or options together, that cannot be. */
export function badOption(message: string, hint?: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: 'vmdk', hint })
}

/**
 * What the options ask for.
 * @throws {ImageError} IMG_BAD_OPTION where they do not go together, in QEMU's words.
 */
export function newDisk({ options, compress }: Pick<CreateSpec, 'options' | 'compress'>): NewDisk {
  const values = options as CreateOptionValues
  const subformat = values.subformat ?? (compress === true ? 'streamOptimized' : 'monolithicSparse')
  const flat = subformat === 'monolithicFlat' || subformat === 'twoGbMaxExtentFlat'
  const { backing_file: backingFile, backing_fmt: backingFormat } = values
  if (flat && backingFile !== undefined) throw badOption("Flat image can't have backing file")
  if (flat && values.zeroed_grain) throw badOption("Flat image can't enable zeroed grain")
  if (backingFormat !== undefined && (backingFile === undefined || backingFormat !== 'vmdk')) {
    throw badOption(
      backingFile === undefined ? 'backing_fmt without backing_file' : 'backing_file must be a vmdk image',
    )
  }
  if (subformat === 'streamOptimized' && backingFile !== undefined) {
    throw badOption('a streamOptimized disk cannot have a backing file', 'take subformat=monolithicSparse')
  }
  if (values.compat6 && values.hwversion !== 'undefined') {
    throw badOption('compat6 cannot be enabled with hwversion set')
  }
  if (compress === true && subformat !== 'streamOptimized') {
    throw badOption(`disks of subformat ${subformat} cannot be compressed`, 'take subformat=streamOptimized')
  }
  return {
    subformat,
    flat,
    split: subformat.startsWith('twoGb'),
    stream: subformat === 'streamOptimized',
    zeroedGrain: values.zeroed_grain,
    grainSectors: values.grain_size / SECTOR,
    level: values.compression_level,
    backingFile: backingFile === undefined ? undefined : plainText('backing_file', backingFile),
    adapterType: values.adapter_type ?? 'ide',
    hardwareVersion: values.compat6
      ? '6'
      : plainText('hwversion', values.hwversion === 'undefined' ? '4' : values.hwversion),
    toolsVersion: plainText('toolsversion', values.toolsversion ?? '2147483647'),
  }
}

function plainText(name: string, value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they would end the line, or hide in it.
  if (/["\u0000-\u001f]/.test(value)) throw badOption(`Parameter '${name}' cannot be written in a descriptor`)
  return value
}

/**
 * Sectors of a disk of that size, rounded up.
 * @throws {ImageError} IMG_UNSUPPORTED_SIZE where the tables, or the names of the extents, would be too many.
 */
export function sectorsOf(size: number, disk: NewDisk): number {
  const sectors = Math.ceil(size / SECTOR)
  const { flat, split, grainSectors } = disk
  const most = split
    ? MAX_SPLIT_EXTENTS * SPLIT_SECTORS
    : flat
      ? MAX_SECTORS
      : MAX_GD_ENTRIES * grainSectors * MAX_GTES
  if (sectors <= most) return sectors
  throw new ImageError(
    'IMG_UNSUPPORTED_SIZE',
    `a disk of ${size} bytes is too large for ${disk.subformat}: it can have ${most * SECTOR}`,
    { format: 'vmdk' },
  )
}
