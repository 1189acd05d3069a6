import type { CreateContext } from './image-writer.js'
import type { ForwardSink, IoOptions } from './storage.js'
import type { ImageWarningCode } from './warning.js'

/** A disk to be written to a forward-only sink: which clusters hold data is known beforehand. */
export interface StreamSource {
  /** Virtual size in bytes. */
  readonly size: number
  /** Fills the whole of `into` from guest bytes. */
  read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void>
  /**
   * Ranges that hold data, ascending, not touching, in whole units of `unit` bytes (the last may end at the size).
   * May be called more than once, with the same answer.
   */
  dataRanges(unit: number): AsyncIterable<{ readonly offset: number; readonly length: number }>
}

/** What `readStream` is given beside the bytes. */
export interface ReadStreamOptions extends IoOptions {
  /** For messages. */
  readonly label: string
  /** Checked values of the format's `openOptions`. Absent: none was given. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
  /**
   * Reads a disk of another format, by its name, from a part of these bytes.
   * @throws {ImageError} IMG_PLUGIN_MISSING; IMG_UNSUPPORTED where that cannot be read from a pipe.
   */
  readonly streamInside?:
    | ((format: string, input: AsyncIterable<Uint8Array>) => Promise<StreamReader>)
    | undefined
  /** Something the user should know that is no error. */
  warn?(message: string, code?: ImageWarningCode): void
}

/** What `pack` is given beside target, disks and options. */
export interface PackContext extends CreateContext {
  /**
   * Writes a disk front to back in another format, by its name, with values for that format's create options. The same disk and
   * options give the same bytes.
   * @throws {ImageError} IMG_PLUGIN_MISSING, IMG_UNSUPPORTED, IMG_BAD_OPTION, …
   */
  streamDisk(
    format: string,
    sink: ForwardSink,
    source: StreamSource,
    options: Readonly<Record<string, unknown>>,
  ): Promise<void>
}

/** One piece of a disk read from a pipe: ascending offsets; what is left out is zero. */
export interface StreamPiece {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** A disk read from a pipe. */
export interface StreamReader {
  /** Virtual size in bytes, where it is known before the end. */
  readonly size?: number | undefined
  /** What the disk holds, in order. Called once. */
  pieces(): AsyncIterable<StreamPiece>
  /** Virtual size in bytes, known once `pieces` has ended. */
  finalSize(): number
}
