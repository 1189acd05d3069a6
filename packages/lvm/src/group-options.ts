import type { OptionSpecs } from '@img/core'

/** What a new group can be told. Names as `-o` takes them. */
export const groupOptions: OptionSpecs = {
  vg: { kind: 'string', default: 'vg0', help: 'Name of the volume group' },
  extent_size: {
    kind: 'size',
    default: 4 * 1024 * 1024,
    min: 1024,
    max: 2 ** 32,
    powerOfTwo: true,
    help: 'Unit of allocation',
  },
  partition: {
    kind: 'oneOf',
    values: ['none', 'gpt', 'mbr'],
    default: 'none',
    help: 'Put the physical volume into a partition',
  },
  metadata_copies: {
    kind: 'int',
    default: 1,
    min: 1,
    max: 2,
    help: 'Metadata areas on each disk: 2 adds one at its end',
  },
  metadata_size: {
    kind: 'size',
    default: 1024 * 1024 - 4096,
    min: 8192,
    max: 1024 * 1024 * 1024,
    help: 'Size of a metadata area',
  },
  data_alignment: {
    kind: 'size',
    default: 1024 * 1024,
    min: 4096,
    max: 2 ** 32,
    powerOfTwo: true,
    help: 'What the first extent starts at a multiple of',
  },
  vg_tags: { kind: 'string', help: 'Tags of the group, separated by commas' },
  vg_uuid: { kind: 'string', help: 'UUID of the group' },
  pv_uuid: { kind: 'string', help: 'UUIDs of the physical volumes, separated by commas' },
  seed: { kind: 'string', help: 'Makes the same UUIDs each time, and records no time' },
}

/** Their values. Sizes in bytes. */
export interface GroupOptions {
  readonly vg: string
  readonly extent_size: number
  readonly partition: 'none' | 'gpt' | 'mbr'
  readonly metadata_copies: number
  readonly metadata_size: number
  readonly data_alignment: number
  readonly vg_tags: string | undefined
  readonly vg_uuid: string | undefined
  readonly pv_uuid: string | undefined
  readonly seed: string | undefined
}
