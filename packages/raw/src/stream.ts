import { alignUp, type IoOptions, type StreamPiece, type StreamReader } from '@img/core'

/** Reads a raw disk from a pipe: the bytes as they come; its size, in whole sectors, is known at the end. */
export function readRawStream(
  input: AsyncIterable<Uint8Array>,
  { signal }: IoOptions = {},
): Promise<StreamReader> {
  let size = 0
  return Promise.resolve({
    async *pieces(): AsyncGenerator<StreamPiece> {
      for await (const bytes of input) {
        signal?.throwIfAborted()
        yield { offset: size, bytes }
        size += bytes.length
      }
    },
    finalSize: () => alignUp(size, 512),
  })
}
