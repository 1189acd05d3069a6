import type { Format, MaybePromise, SecretSource, Storage } from '@img/core'

/** Bytes of a file: all of them, or a storage to read them from. */
export type FileBytes = Uint8Array | Storage

/** An image that another tool made, with what it holds. */
export interface Sample {
  readonly name: string
  /** The image file. Called at most once. */
  file(): MaybePromise<FileBytes>
  /** Files that it refers to, under the names that stand in the image. */
  readonly references?: Readonly<Record<string, () => MaybePromise<FileBytes>>> | undefined
  /** Virtual size in bytes. */
  readonly size: number
  /** What the guest sees. Absent: told by `sha256`, or not at all. */
  content?(): MaybePromise<FileBytes>
  /** SHA-256 of what the guest sees, in hexadecimal digits. */
  readonly sha256?: string | undefined
  /** Values for the format's open options. */
  readonly openOptions?: Readonly<Record<string, unknown>> | undefined
}

/** How much a format may take to open and read one small damaged image. */
export interface Budget {
  /** Calls of the storage. Default: 1000, and a hundred times what the undamaged image takes. */
  readonly calls?: number | undefined
  /** Bytes read from the storage. Default: 8 MiB, and a hundred times what the undamaged image takes. */
  readonly bytes?: number | undefined
  /** Bytes of one typed array, or items of one array. Default: 16 MiB, and four times the file. */
  readonly allocation?: number | undefined
}

/** The format to be tested, and what the kit cannot know of it. Only `format` is required. */
export interface Subject {
  readonly format: Format
  /**
   * Values for `create`: one set a run, such as `[{}, { cluster_size: 512 }]`. Default: the defaults alone. Overlays, where
   * the format has `backing_file`, must be possible with the first; with others they may be refused.
   */
  readonly options?: readonly Readonly<Record<string, unknown>>[] | undefined
  /** Values for the format's open options, for the images that the kit makes. */
  readonly openOptions?: Readonly<Record<string, unknown>> | undefined
  /** Gives the passphrases that open and create options name. Default: there is none. */
  readonly secret?: SecretSource | undefined
  /** Create options that another needs beside it: `{ data_file_raw: { data_file: 'x.raw' } }`. */
  readonly needs?: Readonly<Record<string, Readonly<Record<string, unknown>>>> | undefined
  /** Images of other tools. Required for a format that has no `create`. */
  readonly samples?: readonly Sample[] | undefined
  /** Virtual sizes in bytes that images are made with. Default: from nothing to beyond 4 GiB. */
  readonly sizes?: readonly number[] | undefined
  /** The virtual size that an image made with these options gets. Default: the same, or in whole sectors. */
  virtualSize?(requested: number, options: Readonly<Record<string, unknown>>): number
  /** Bytes that are not of this format, beside those that the kit brings. */
  readonly others?: readonly { readonly name: string; readonly bytes: Uint8Array }[] | undefined
  /** Other formats that samples need for their backing files. The kit brings raw. */
  readonly formats?: readonly Format[] | undefined
  readonly budget?: Budget | undefined
  /** How much is tried where not everything can be: 1 is for every day, 10 for a night. Default 1. */
  readonly depth?: number | undefined
  /** Seed of everything random. Default 1; a failure is found again with the same seed and depth. */
  readonly seed?: number | undefined
}
