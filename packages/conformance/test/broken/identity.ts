import { toyCreateOptions } from '../toy/options.js'
import { type Broken, withFormat } from './support.js'

/** Faults of the format object itself. */
export const identity: readonly Broken[] = [
  {
    what: 'names an extension without its dot',
    format: withFormat({ extensions: ['toy'] }),
    fault: /extension "toy" is not like \.img/,
  },
  {
    what: 'has a magic number and no probe',
    format: withFormat({ probe: undefined }),
    fault: /magic is there without probe/,
  },
  {
    what: 'has a default that is no value of the option',
    format: withFormat({
      createOptions: {
        ...toyCreateOptions,
        codec: { kind: 'oneOf', help: 'Compression', values: ['zlib', 'deflate-raw'], default: 'zstd' },
      },
    }),
    fault: /createOptions\.codec: its default "zstd" is refused/,
  },
  {
    what: 'has a default that is no power of two',
    format: withFormat({
      createOptions: {
        ...toyCreateOptions,
        cluster_size: { kind: 'size', help: 'Cluster size', default: 1000, powerOfTwo: true },
      },
    }),
    fault: /createOptions\.cluster_size: its default 1000 is refused/,
  },
  {
    what: 'explains an option with nothing',
    format: withFormat({
      createOptions: { ...toyCreateOptions, reserve: { kind: 'bool', help: ' ', default: false } },
    }),
    fault: /createOptions\.reserve: help is empty/,
  },
  {
    what: 'takes its own name for an alias',
    format: withFormat({ aliases: ['toy'] }),
    fault: /name or alias "toy" stands there twice/,
  },
]
