import type { BlockDevice, Extent } from '../block.js'
import type { ImageWriter } from '../image-writer.js'
import type { IoOptions } from '../storage.js'

/** How far a job is. */
export interface Progress {
  readonly done: number
  readonly total: number
  readonly unit: 'bytes'
  /** What is being done: `scan`, `copy`, `compare`, … */
  readonly phase: string
}

/** Options of every long job. */
export interface JobOptions extends IoOptions {
  /** Called often; keep it cheap. */
  readonly onProgress?: ((progress: Progress) => void) | undefined
}

/** What a mover is to do: bring the data of `source` to where `writer` places it. */
export interface CopyPlan {
  /** Reads guest bytes, chain and compression resolved. */
  readonly source: BlockDevice
  /** The guest ranges to bring over: ascending, covering 0 to `source.size`. */
  readonly extents: AsyncIterable<Extent>
  readonly writer: ImageWriter
  /** Shortest run of zeros, in bytes, that is left out; 0: zeros are written too. A multiple of 512. */
  readonly sparse: number
  /** Guest bytes covered so far. */
  readonly advance: (bytes: number) => void
  readonly signal?: AbortSignal | undefined
}

/** The data plane: executes a plan. Core has an asynchronous one; @img/node gives one over file descriptors. */
export type Mover = (plan: CopyPlan) => Promise<void>

/** Makes a buffer of that many bytes. */
export type Allocate = (length: number) => Uint8Array
