import type { BoolOption, EnumOption, SizeOption, StringOption } from '@img/core'

/** How a toy image is made. */
export const toyCreateOptions: {
  readonly cluster_size: SizeOption & { readonly default: number }
  readonly codec: EnumOption<'zlib' | 'deflate-raw'> & { readonly default: 'zlib' }
  readonly reserve: BoolOption & { readonly default: boolean }
  readonly backing_file: StringOption
  readonly backing_fmt: StringOption
  readonly data_file: StringOption
} = {
  cluster_size: {
    kind: 'size',
    help: 'Cluster size',
    default: 1024,
    min: 512,
    max: 65536,
    powerOfTwo: true,
  },
  codec: { kind: 'oneOf', help: 'Compression', values: ['zlib', 'deflate-raw'], default: 'zlib' },
  reserve: { kind: 'bool', help: 'Keep room for all clusters', default: false },
  backing_file: { kind: 'string', help: 'Name of the backing file' },
  backing_fmt: { kind: 'string', help: 'Format of the backing file' },
  data_file: { kind: 'string', help: 'File for the data of the guest' },
}
