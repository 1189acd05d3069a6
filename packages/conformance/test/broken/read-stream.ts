import { alignUp, type StreamPiece, type StreamReader } from '@img/core'
import { toy } from '../toy/format.js'
import { type Broken, withFormat } from './support.js'

const readStream = toy.readStream as NonNullable<typeof toy.readStream>

function withPieces(
  change: (pieces: AsyncIterable<StreamPiece>) => AsyncIterable<StreamPiece>,
  members: Partial<StreamReader> = {},
): Broken['format'] {
  return withFormat({
    async readStream(input, options) {
      const reader = await readStream(input, options)
      return {
        size: reader.size,
        finalSize: () => reader.finalSize(),
        pieces: () => change(reader.pieces()),
        ...members,
      }
    },
  })
}

/** Faults of reading from a pipe. */
export const readStreamFaults: readonly Broken[] = [
  {
    what: 'gives pieces in the wrong order',
    format: withPieces(async function* (pieces) {
      let held: StreamPiece | undefined
      for await (const piece of pieces) {
        if (held) yield piece
        if (held) yield held
        held = held ? undefined : piece
      }
      if (held) yield held
    }),
    fault: /the pieces go back from \d+ to \d+/,
  },
  {
    what: 'gives pieces that end past the disk',
    format: withPieces(async function* (pieces) {
      for await (const { offset, bytes } of pieces) {
        const whole = new Uint8Array(alignUp(bytes.length, 1024))
        whole.set(bytes)
        yield { offset, bytes: whole }
      }
    }),
    fault: /the pieces end at \d+, past the final size of \d+/,
  },
  {
    what: 'tells another size at the end',
    format: withPieces((pieces) => pieces, { size: 512 }),
    fault: /size was 512 first, and \d+ at the end/,
  },
  {
    what: 'takes the end of the pipe for the end of the data',
    format: withPieces(async function* (pieces) {
      try {
        yield* pieces
      } catch {
        // As if it had ended there.
      }
    }),
    fault: /bytes, read from a pipe without complaint: guest offset \d+ reads as 0x00/,
  },
  {
    what: 'makes an error of its own of what the pipe fails with',
    format: withFormat({
      async readStream(input, options) {
        try {
          return await readStream(input, options)
        } catch {
          throw new Error('cannot read')
        }
      },
    }),
    fault: /failed with Error: cannot read/,
  },
  {
    what: 'ignores abort',
    format: withFormat({
      readStream: (input, options) => readStream(input, { ...options, signal: undefined }),
    }),
    fault: /it went on reading the pipe after it was told to stop at piece 0/,
  },
  {
    what: 'loses what does not end with a piece of the pipe',
    format: withFormat({
      readStream(input, options) {
        async function* whole(): AsyncGenerator<Uint8Array> {
          for await (const bytes of input) if (bytes.length % 512 === 0) yield bytes
        }
        return readStream(whole(), options)
      },
    }),
    fault: /reading it from a pipe failed with ImageError IMG_TRUNCATED/,
  },
]
