import type { CodecName, CompressOptions, ImageErrorCode, ImageErrorDetails } from '@img/core'

/** What a worker is asked. `units` are views into one buffer, which goes with the message, or into shared memory. */
export type WorkerRequest = {
  readonly id: number
  readonly codec: CodecName
  readonly units: readonly Uint8Array[]
} & (
  | { readonly kind: 'compress' | 'compress-shared'; readonly options: CompressOptions }
  /** Bytes that each unit is to give. */
  | { readonly kind: 'decompress'; readonly lengths: readonly number[] }
)

/** What it answers, in the order of the units. */
export type WorkerResponse =
  | { readonly id: number; readonly units: readonly Uint8Array[] }
  | { readonly id: number; readonly failure: WorkerFailure }

/** An error without its class, which does not cross threads. */
export interface WorkerFailure {
  readonly name: string
  readonly message: string
  /** Of an ImageError. */
  readonly code?: ImageErrorCode | undefined
  readonly details?: Omit<ImageErrorDetails, 'cause'> | undefined
}
