import type { AmendContext } from './amend.js'
import type { BitmapStore } from './bitmap.js'
import type { Preallocation, ResizeOptions } from './block.js'
import type { MaybePromise } from './bytes.js'
import type { CheckOptions, CheckResult } from './check.js'
import type { ClusterMap } from './cluster.js'
import { ImageError } from './errors.js'
import type { DiskImage } from './image.js'
import type { CreateContext, CreateSpec, ImageWriter, Measurement, MeasureSpec } from './image-writer.js'
import type { OptionSpecs, ValuesOf } from './options.js'
import type { AddedReference } from './reference.js'
import type { SecretSource } from './secret.js'
import type { SnapshotStore } from './snapshot.js'
import type { ForwardSink, IoOptions, Storage, WritableStorage } from './storage.js'
import type { PackContext, ReadStreamOptions, StreamReader, StreamSource } from './streaming.js'
import type { VolumeStore } from './volumes.js'
import type { ImageWarningCode } from './warning.js'

/** Bytes that stand at a place in every file of a format. */
export interface Magic {
  /** From the start, or from the end where negative. */
  readonly offset: number
  /** The bytes, as hexadecimal digits. */
  readonly hex: string
}

/** What a probe may look at. */
export interface ProbeInput {
  /** The first bytes, up to {@link Format.probe}'s `head`. */
  readonly head: Uint8Array
  /** The last bytes, up to `tail`. Empty where `tail` is absent. */
  readonly tail: Uint8Array
  /** Bytes of the whole. */
  readonly size: number
  /** Label of the storage: a hint only. */
  readonly label: string
}

/** How a format recognises its files without opening anything else. */
export interface Probe {
  /** Bytes wanted from the start, at most 1 MiB. */
  readonly head: number
  /** Bytes wanted from the end. */
  readonly tail?: number | undefined
  /** True where these bytes are of this format, whatever version. Never throws. */
  matches(input: ProbeInput): boolean
}

/** A file that an image names: backing file, external data file, extent, parent. */
export interface Reference {
  readonly kind: 'backing' | 'data' | 'extent' | 'parent'
  /** The name as it stands in the image. */
  readonly name: string
  /** The format recorded beside it. */
  readonly format?: string | undefined
  /**
   * Where the image knows no file name, only what the file holds (the UUID of a VDI parent): alternatives, each of bytes that
   * stand there. Any regular file beside the image with the bytes of one of them is meant, and `name` is for people.
   */
  readonly signatures?: readonly (readonly Magic[])[] | undefined
}

/** What a driver tells of an image, as plain JSON-like data. */
export interface FormatInfo {
  /** Bytes; absent where the format has no clusters (raw). */
  readonly clusterSize?: number | undefined
  readonly encrypted?: boolean | undefined
  /** Some data is, or may be, compressed (vmdk streamOptimized). */
  readonly compressed?: boolean | undefined
  /** Not closed cleanly. */
  readonly dirty?: boolean | undefined
  /** Format-specific data under qemu-img's names, kebab-case, in its order. */
  readonly specific?: Readonly<Record<string, unknown>> | undefined
  /** More that qemu-img does not show: header extensions, unknown fields. Kebab-case. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined
}

/**
 * One opened image as its format sees it: header, mapping, metadata. Core wraps it into a DiskImage.
 * A driver never opens its backing file: it names it, and core opens it through the gate.
 */
export interface Driver {
  /** Virtual size in bytes. */
  readonly size: number
  readonly map: ClusterMap
  /** The backing file as stored; absent without one. */
  readonly backing?: Reference | undefined
  /** Set where the image can be described but not read (no key, data file not opened). */
  readonly unreadable?: ImageError | undefined
  /**
   * Holes of the storage always show in extents: as zero runs, because they are the format's only notion of zero (raw),
   * or as marked data runs (an image whose clusters are preallocated). Absent: only on demand, as marked data runs.
   */
  readonly holes?: 'zero' | 'mark' | undefined
  /** What the image tells of itself beside its size, from metadata alone. */
  info(options?: IoOptions): MaybePromise<FormatInfo>
  readonly snapshots?: SnapshotStore<Driver> | undefined
  readonly bitmaps?: BitmapStore | undefined
  /** The group of volumes that it is one of (LVM); there, too, where no single volume was opened. */
  readonly volumes?: VolumeStore | undefined
  /**
   * Where this disk may read differently from another, told from metadata alone: what is left out reads the same, as far as
   * both reach. Ascending, not overlapping, in bytes of the guest; content need not be looked at, so what was written with the
   * same bytes may be told too. `from` is a driver of the same format: a snapshot, another volume, perhaps opened apart, or
   * something else altogether; undefined where nothing can be told of the two without looking at every mapping, which core
   * then does by itself.
   * @throws {ImageError} IMG_CORRUPT, IMG_TRUNCATED.
   */
  changes?(from: Driver, options?: IoOptions): MaybePromise<AsyncIterable<ChangedRange> | undefined>
  /**
   * Called once with the opened backing image, before anything is read: for formats that record which one it has to be
   * (UUID, content id). Nothing here may read guest data.
   * @throws {ImageError} IMG_CORRUPT where it is another.
   */
  checkBacking?(backing: DiskImage, options?: IoOptions): MaybePromise<void>
  /**
   * Changes the virtual size; afterwards `size` tells the new one. Writes metadata as safely as `ClusterMap.flush`, and flushes
   * the storage itself. Core asked for leave to shrink, and zeroes what the last cluster held beyond the old size.
   */
  resize?(size: number, options: ResizeOptions): Promise<void>
  /**
   * Looks for damage in the metadata and, where asked, repairs it. Flushes what it repaired. Throws only where nothing at
   * all can be told; what cannot be checked is a finding.
   */
  check?(options: CheckOptions): Promise<CheckResult>
  /**
   * Names another backing file, or none, without touching data (`rebase -u`). Writes metadata as safely as
   * `ClusterMap.flush`, and flushes the storage itself.
   * @throws {ImageError} IMG_UNSUPPORTED, IMG_BAD_OPTION.
   */
  setBacking?(backing: Reference | undefined, options?: IoOptions): Promise<void>
  /**
   * Changes options of the image that exists; values are checked against the format's `amendOptions`. Only the options
   * given are changed.
   * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED.
   */
  amend?(options: Readonly<Record<string, unknown>>, context: AmendContext): Promise<void>
  /**
   * Gives up all that the disk holds of its own, so that it reads as its backing file; snapshots stay (`commit`). Writes
   * metadata as safely as `ClusterMap.flush`, and flushes the storage itself.
   */
  empty?(options?: IoOptions): Promise<void>
  /** Makes the file as small as it can be in place: what nothing uses goes back to the host. Flushes the storage itself. */
  compact?(options?: CompactOptions): Promise<void>
  /** Closes what it opened beside the storage given to `open`. */
  close?(): Promise<void>
}

/** A guest range in which two disks may differ. */
export interface ChangedRange {
  /** First byte. */
  readonly offset: number
  /** Bytes, at least 1. */
  readonly length: number
}

/** Options of `compact`. */
export interface CompactOptions extends IoOptions {
  /** Told how far it is, in bytes of the file. */
  readonly onProgress?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined
}

/** What `open` is given beside the storage. */
export interface OpenContext extends IoOptions {
  /** Checked values of the format's `openOptions`. */
  readonly options: Readonly<Record<string, unknown>>
  /** The image is to be changed. Otherwise nothing is ever written to the storage. */
  readonly writable: boolean
  /**
   * To be checked or repaired: damage that `check` tells of is no reason to refuse, and the driver may be `unreadable`.
   * Nothing is repaired by opening.
   */
  readonly repair?: boolean | undefined
  /** What can still be read of a damaged image is wanted: damage is warned of, and costs only the ranges it hits. */
  readonly salvage?: boolean | undefined
  /**
   * Only for information: the driver is `unreadable` where it would need a reference. None is opened but extents of which
   * the header is to be told of, and it is no error where that fails.
   */
  readonly inspect: boolean
  /**
   * Opens a data file or an extent through the caller's gate.
   * @throws {ImageError} IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
   */
  openReference(reference: Reference): Promise<Storage>
  /**
   * Makes another file that belongs to the image (one more extent), through the caller's gate, where none of that name is yet.
   * Absent: that is not allowed.
   * @throws {ImageError} IMG_EXISTS, IMG_REFERENCE_DENIED.
   */
  addReference?(reference: Reference): Promise<AddedReference>
  /**
   * Opens the image that is in a part of this one's bytes (a disk in an OVA), read-only, whatever its format: probed where none
   * is named, and never guessed to be raw. It may refer to no file. Whoever asked closes it, and with it the storage; where it
   * cannot be opened, that is closed already. Absent where this image is such a part itself.
   * @throws {ImageError} as `openImage`.
   */
  readonly openInside?: ((storage: Storage, format?: string) => Promise<DiskImage>) | undefined
  /**
   * The bytes of a secret (a passphrase, as UTF-8), by the id that an option such as `encrypt.key-secret` names; of the
   * image's own where there is no id.
   * @throws {ImageError} IMG_SECRET_MISSING.
   */
  readonly secret: SecretSource
  /**
   * Resolves once the reads that have begun by now are over; undefined where there are none. To be awaited after the mapping
   * has let go of room that a lookup may have told of, and before that room is given back or used anew. Absent: nothing is
   * read while the image is changed.
   */
  readsEnded?(): MaybePromise<void>
  /** Something the user should know that is no error. */
  warn(message: string, code?: ImageWarningCode): void
}

/**
 * A disk-image format: the contract that every plugin fulfils. Capabilities are the members that exist.
 */
export interface Format {
  /** Version of this contract. */
  readonly apiVersion: 1
  /** Short lower-case name, as given to `-f` and `-O`. */
  readonly name: string
  /** For people. */
  readonly title: string
  /** File name extensions with the dot, the usual one first. */
  readonly extensions: readonly string[]
  /** Other names accepted for `name`. */
  readonly aliases?: readonly string[] | undefined
  /** Bytes that stand in every file; empty where there are none (raw). */
  readonly magic: readonly Magic[]
  /** Absent for a format that cannot be recognised (raw). */
  readonly probe?: Probe | undefined
  /**
   * It is content of a disk, whatever image that is in (LVM): core opens the image beneath first, and `open` and the
   * references get the bytes that its guest sees.
   */
  readonly onDisk?: true | undefined
  readonly openOptions?: OptionSpecs | undefined
  /**
   * Opens an image. Reads only metadata; the storage stays the caller's to close.
   * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_READ_ONLY, …
   */
  open(storage: Storage, context: OpenContext): Promise<Driver>
  /** Options of `create` under qemu-img's names. Present with `create` and with `pack`. */
  readonly createOptions?: OptionSpecs | undefined
  /** Options that `Driver.amend` can change, under qemu-img's names and without defaults. Present with `amend`. */
  readonly amendOptions?: OptionSpecs | undefined
  /** Starts a new image in an empty target. An empty image is `create` and then `finish`. */
  create?(target: WritableStorage, spec: CreateSpec, context: CreateContext): Promise<ImageWriter>
  /** Writes a whole image in one forward pass. */
  stream?(sink: ForwardSink, source: StreamSource, spec: CreateSpec, context: CreateContext): Promise<void>
  /**
   * Writes several disks, each as one of its own, into an empty file or a sink that only goes forward: formats whose files hold
   * several disks (an OVA), in place of `create`. `options`: checked values of `createOptions`.
   */
  pack?(
    target: WritableStorage | ForwardSink,
    disks: readonly StreamSource[],
    options: Readonly<Record<string, unknown>>,
    context: PackContext,
  ): Promise<void>
  /** Reads a disk from a pipe. */
  readStream?(input: AsyncIterable<Uint8Array>, options: ReadStreamOptions): Promise<StreamReader>
  /** Tells the size of the file that a new image would take, without making it. */
  measure?(spec: MeasureSpec): Promise<Measurement>
  /** Options of `createGroup`. Present with it. */
  readonly groupOptions?: OptionSpecs | undefined
  /**
   * Makes an empty group of volumes on disks that have their size and hold zeros. Flushes them.
   * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED_SIZE.
   */
  createGroup?(
    disks: readonly WritableStorage[],
    options: Readonly<Record<string, unknown>>,
    context?: IoOptions,
  ): Promise<void>
  /** Bytes of one disk on which a group with volumes of these sizes fits. Present with `createGroup`. */
  groupSize?(sizes: readonly number[], options: Readonly<Record<string, unknown>>): Promise<number>
}

/** Preallocation modes in qemu-img's order, for option specs. */
export const preallocations: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full']

/**
 * Declares a format. Checks at run time what types cannot.
 * @throws {TypeError} where the object is not a format.
 * @throws {ImageError} IMG_PLUGIN_INCOMPATIBLE for another apiVersion.
 */
export function defineFormat<const F extends Format>(format: F): F {
  if (format.apiVersion !== 1) {
    throw new ImageError(
      'IMG_PLUGIN_INCOMPATIBLE',
      `format ${String((format as Format).name)} is made for another version of @img/core`,
      {
        format: (format as Format).name,
        hint: 'install versions of the plugin and of @img/core that belong together',
      },
    )
  }
  if (!/^[a-z][a-z0-9-]*$/.test(format.name))
    throw new TypeError(`format name ${JSON.stringify(format.name)} is not lower-case`)
  if (typeof format.open !== 'function') throw new TypeError(`format ${format.name} has no open()`)
  if (format.create && !format.createOptions)
    throw new TypeError(`format ${format.name} has create() but no createOptions`)
  return format
}

/** Create options typed by their specs: `options as CreateOptionsOf<typeof spec>`. */
export type OptionsOf<S extends OptionSpecs> = ValuesOf<S>
