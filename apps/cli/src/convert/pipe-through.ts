import { type ForwardSink, ImageError, type Progress, type StreamReader } from '@img/core'

/** Zeros are written so many bytes at a time. */
const zerosAtOnce = 1024 * 1024

/**
 * Copies a disk that comes through a pipe into another one, as raw bytes: nothing of it is kept.
 * @throws {ImageError} IMG_CORRUPT where the stream goes backwards; what reading and writing throw.
 */
export async function pipeThrough(
  reader: StreamReader,
  sink: ForwardSink,
  { signal, onProgress }: { readonly signal: AbortSignal; onProgress(progress: Progress): void },
): Promise<void> {
  let done = 0
  const zeros = new Uint8Array(zerosAtOnce)
  const zeroTo = async (offset: number): Promise<void> => {
    while (done < offset) {
      signal.throwIfAborted()
      const length = Math.min(zerosAtOnce, offset - done)
      await sink.write(length === zerosAtOnce ? zeros : zeros.subarray(0, length))
      done += length
    }
  }
  for await (const { offset, bytes } of reader.pieces()) {
    signal.throwIfAborted()
    if (offset < done) throw new ImageError('IMG_CORRUPT', 'the stream goes backwards', { offset })
    await zeroTo(offset)
    await sink.write(bytes)
    done += bytes.length
    onProgress({ done, total: reader.size ?? done, unit: 'bytes', phase: 'copy' })
  }
  await zeroTo(reader.finalSize())
}
