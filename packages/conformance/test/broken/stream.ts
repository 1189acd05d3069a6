import type { ForwardSink, StreamSource } from '@img/core'
import { toy } from '../toy/format.js'
import { type Broken, withFormat } from './support.js'

const stream = toy.stream as NonNullable<typeof toy.stream>

function withSink(change: (sink: ForwardSink) => ForwardSink): Broken['format'] {
  return withFormat({ stream: (sink, source, spec, context) => stream(change(sink), source, spec, context) })
}

function withSource(change: (source: StreamSource) => StreamSource): Broken['format'] {
  return withFormat({ stream: (sink, source, spec, context) => stream(sink, change(source), spec, context) })
}

/** Faults of writing to a pipe. */
export const streamFaults: readonly Broken[] = [
  {
    what: 'does not wait for the sink',
    format: withSink((sink) => ({
      label: sink.label,
      async write(bytes) {
        sink.write(bytes).catch(() => undefined)
      },
    })),
    fault: /it writes to the sink before the last write is done/,
  },
  {
    what: 'uses a buffer again that the sink still has',
    format: withSink((sink) => ({
      label: sink.label,
      async write(bytes) {
        const written = sink.write(bytes)
        bytes.fill(0)
        await written
      },
    })),
    fault: /it changes bytes that it gave to the sink before the sink was done with them/,
  },
  {
    what: 'goes back in the sink',
    format: withSink((sink) => ({
      label: sink.label,
      async write(bytes) {
        const { seek } = sink as { seek?: (offset: number) => Promise<void> }
        await seek?.(0)
        await sink.write(bytes)
      },
    })),
    fault: /it uses seek of the sink; a sink only has write/,
  },
  {
    what: 'leaves the last data out',
    format: withSource((source) => ({
      size: source.size,
      read: (offset, into) => source.read(offset, into),
      async *dataRanges(unit) {
        let last: { offset: number; length: number } | undefined
        for await (const range of source.dataRanges(unit)) {
          if (last) yield last
          last = range
        }
      },
    })),
    fault: /what was written.*: guest offset \d+ reads as 0x00/,
  },
  {
    what: 'writes clusters of zeros where data is',
    format: withSource((source) => ({
      size: source.size,
      read: async (_, into) => {
        into.fill(0)
      },
      dataRanges: (unit) => source.dataRanges(unit),
    })),
    fault: /guest offset 0 reads as 0x00/,
  },
  {
    what: 'swallows what the sink fails with',
    format: withSink((sink) => ({
      label: sink.label,
      write: (bytes) => sink.write(bytes).catch(() => undefined),
    })),
    fault: /the sink failed at write 1, and writing the image succeeded/,
  },
  {
    what: 'makes an error of its own of what the sink fails with',
    format: withSink((sink) => ({
      label: sink.label,
      write: (bytes) =>
        sink.write(bytes).catch(() => {
          throw new Error('cannot write')
        }),
    })),
    fault: /the image failed with Error: cannot write, expected the sink's own error/,
  },
  {
    what: 'ignores abort',
    format: withFormat({
      stream: (sink, source, spec, context) =>
        stream(
          sink,
          {
            size: source.size,
            read: (offset, into) => source.read(offset, into, {}),
            dataRanges: (unit) => source.dataRanges(unit),
          },
          spec,
          { ...context, signal: undefined },
        ),
    }),
    fault: /it ignored the abort at write 1 of \d+, and succeeded/,
  },
]
