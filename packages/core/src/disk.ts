import { writeCompressedLayer } from './access/compressed.js'
import { layerExtents } from './access/extents.js'
import { type Layer, readLayer } from './access/read.js'
import { Readers } from './access/readers.js'
import { UnitCache } from './access/units.js'
import { discardLayer, writeLayer, writeZeroesLayer } from './access/write.js'
import type { AmendOptions } from './amend.js'
import type { BitmapStore } from './bitmap.js'
import type { Extent, ExtentOptions, ResizeOptions } from './block.js'
import { checkRange, isPromise } from './bytes.js'
import type { CheckOptions, CheckResult } from './check.js'
import type { ClusterZeroOptions } from './cluster.js'
import { diskBitmaps } from './disk-bitmaps.js'
import { resizeDisk } from './disk-resize.js'
import { diskSnapshots, OpenSnapshots } from './disk-snapshots.js'
import { diskVolumes } from './disk-volumes.js'
import { ImageError } from './errors.js'
import type { CompactOptions, Driver, Format, Reference } from './format.js'
import type { CompressedWriteOptions, DiskImage, ImageInfo } from './image.js'
import { parseOptions } from './options.js'
import { describe } from './reference.js'
import { noSecret } from './secret.js'
import type { SnapshotStore } from './snapshot.js'
import { asyncDispose } from './storage/dispose.js'
import type { IoOptions, Storage } from './storage.js'
import type { VolumeStore } from './volumes.js'

/** What a disk is made of. */
export interface DiskParts {
  readonly format: Format
  readonly driver: Driver
  readonly storage: Storage
  readonly backing?: Disk | undefined
  readonly writable?: boolean | undefined
  /** Those of which the driver can learn when they have ended. Default: nobody asks. */
  readonly readers?: Readers | undefined
  /** A snapshot of this disk: it reads the same backing file, and closing it leaves storage and backing open. */
  readonly snapshotOf?: Disk | undefined
  /** Called when closing begins. */
  readonly onClose?: (() => void) | undefined
}

/** The access layer over a driver: all reading, writing and copy-on-write, for every format alike. */
export class Disk implements DiskImage, Layer {
  readonly format: Format
  readonly driver: Driver
  readonly storage: Storage
  readonly backing: Disk | undefined
  readonly backingMissing: ImageError | undefined
  readonly units: UnitCache = new UnitCache()
  readonly blockSize = 512
  readonly snapshots?: SnapshotStore<DiskImage>
  readonly bitmaps?: BitmapStore
  readonly volumes?: VolumeStore
  readonly write?: (offset: number, bytes: Uint8Array, options?: IoOptions) => Promise<void>
  readonly writeZeroes?: (offset: number, length: number, options?: ClusterZeroOptions) => Promise<void>
  readonly discard?: (offset: number, length: number, options?: IoOptions) => Promise<void>
  readonly resize?: (size: number, options?: ResizeOptions) => Promise<void>
  readonly flush?: (options?: IoOptions) => Promise<void>
  readonly check?: (options?: CheckOptions) => Promise<CheckResult>
  readonly amend?: (options: Readonly<Record<string, unknown>>, context?: AmendOptions) => Promise<void>
  readonly compact?: (options?: CompactOptions) => Promise<void>
  readonly setBacking?: (backing: Reference | undefined, options?: IoOptions) => Promise<void>
  readonly empty?: (options?: IoOptions) => Promise<void>
  readonly writeCompressed?: (
    offset: number,
    bytes: Uint8Array,
    options?: CompressedWriteOptions,
  ) => Promise<void>
  /** Set by the constructor: the symbol may have to be made first. */
  declare readonly [Symbol.asyncDispose]: () => Promise<void>
  readonly #borrowed: boolean
  readonly #readers: Readers
  readonly #opened: OpenSnapshots
  readonly #onClose: (() => void) | undefined
  #closed: Promise<void> | undefined
  #turn: Promise<unknown> = Promise.resolve()
  /** Set once the image names another backing file than the one that is open. */
  #rebased: ImageError | undefined

  constructor(parts: DiskParts) {
    Object.defineProperty(this, asyncDispose, { value: () => this.close() })
    this.format = parts.format
    this.driver = parts.driver
    this.storage = parts.storage
    this.backing = parts.backing ?? parts.snapshotOf?.backing
    this.backingMissing = parts.snapshotOf?.backingMissing ?? this.#missingBacking()
    this.#borrowed = parts.snapshotOf !== undefined
    const { snapshotOf: whole } = parts
    this.#readers = whole ? whole.#readers : (parts.readers ?? new Readers())
    this.#opened = whole ? whole.#opened : new OpenSnapshots(this.storage.label)
    this.#onClose = parts.onClose
    const { map, snapshots, bitmaps, volumes, resize, check, amend, compact, setBacking, empty } =
      parts.driver
    if (volumes) {
      this.volumes = diskVolumes(volumes, parts.writable === true, (options, task) => {
        this.#assertOpen()
        return this.#inOrder(options, task)
      })
    }
    if (bitmaps) {
      this.bitmaps = diskBitmaps(bitmaps, {
        look: (options, task) => {
          this.#assertOpen()
          return this.#inOrder(options, task)
        },
        inTurn: (options, task) => this.#inTurn(options, task),
      })
    }
    if (check) this.check = (options = {}) => this.#check(options, parts.writable === true)
    if (snapshots) {
      this.snapshots = diskSnapshots(snapshots, {
        opened: this.#opened,
        open: (driver, onClose) => {
          const { format, storage } = this
          return new Disk({ format, driver, storage, snapshotOf: this, onClose })
        },
        look: (options, task) => {
          this.#assertOpen()
          return this.#inOrder(options, task)
        },
        inTurn: (options, task) => this.#inTurn(options, task),
        forget: () => this.units.clear(),
      })
    }
    if (parts.writable !== true) return
    if (map.allocate) {
      this.write = (offset, bytes, options) =>
        this.#change(offset, bytes.length, options, () => writeLayer(this, offset, bytes, options))
      this.writeZeroes = (offset, length, options) =>
        this.#change(offset, length, options, () => writeZeroesLayer(this, offset, length, options))
      this.flush = (options) => this.#inTurn(options, () => this.#flush(options))
    }
    if (map.discard) {
      this.discard = (offset, length, options) =>
        this.#change(offset, length, options, () => discardLayer(this, offset, length, options))
    }
    if (amend) this.amend = (options, context = {}) => this.#amend(options, context)
    if (compact) {
      this.compact = (options) =>
        this.#maintain(options, async () => {
          this.#opened.assertNone()
          await compact.call(parts.driver, options)
        })
    }
    if (map.compression && map.allocateCompressed) {
      this.writeCompressed = (offset, bytes, options) =>
        this.#change(offset, bytes.length, options, () => writeCompressedLayer(this, offset, bytes, options))
    }
    if (setBacking) this.setBacking = (backing, options) => this.#setBacking(backing, options)
    if (empty) this.empty = (options) => this.#maintain(options, () => empty.call(parts.driver, options))
    if (resize) {
      this.resize = (size, options = {}) => this.#inTurn(options, () => resizeDisk(this, size, options))
    }
  }

  get size(): number {
    return this.driver.size
  }

  get clusterSize(): number {
    return this.driver.map.clusterSize
  }

  get formatName(): string {
    return this.format.name
  }

  get unreadable(): ImageError | undefined {
    return this.driver.unreadable ?? this.backing?.unreadable
  }

  async read(offset: number, into: Uint8Array, options?: IoOptions): Promise<void> {
    this.assertReadable()
    checkRange(offset, into.length, this.size)
    const pending = readLayer(this, offset, into, options)
    if (!isPromise(pending)) return
    // Any layer may be one that is changed.
    for (let layer: Disk | undefined = this; layer; layer = layer.backing) layer.#readers.add(pending)
    await pending
  }

  async *extents(options: ExtentOptions = {}): AsyncGenerator<Extent> {
    this.assertReadable()
    const { offset = 0 } = options
    const length = options.length ?? this.size - offset
    checkRange(offset, length, this.size)
    for await (const extent of layerExtents(this, offset, offset + length, options)) {
      this.#assertOpen()
      yield extent
    }
  }

  async info(): Promise<ImageInfo> {
    this.#assertOpen()
    const [specific, snapshots, hostSize] = await Promise.all([
      this.driver.info(),
      this.driver.snapshots?.list(),
      this.storage.hostSize?.(),
    ])
    return {
      ...specific,
      format: this.format.name,
      label: this.storage.label,
      virtualSize: this.size,
      hostSize,
      backing: this.driver.backing,
      snapshots,
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  assertReadable(): void {
    this.#assertOpen()
    if (this.driver.unreadable) throw this.driver.unreadable
    if (this.#rebased) throw this.#rebased
  }

  #assertOpen(): void {
    if (this.#closed) {
      throw new ImageError('IMG_CLOSED', `${this.storage.label} is closed`, { source: this.storage.label })
    }
  }

  #missingBacking(): ImageError | undefined {
    const { backing } = this.driver
    if (backing === undefined || this.backing !== undefined) return undefined
    return new ImageError(
      'IMG_REFERENCE_DENIED',
      `${this.storage.label}: ${describe(backing)} was not opened`,
      {
        format: this.format.name,
        source: this.storage.label,
        hint: 'open the image with its backing chain',
      },
    )
  }

  /** Changes run one after another: a driver's allocator never sees two at once. What was begun before close is done. */
  async #inTurn<T>(options: IoOptions | undefined, change: () => Promise<T>): Promise<T> {
    this.assertReadable()
    return this.#inOrder(options, change)
  }

  async #inOrder<T>(options: IoOptions | undefined, change: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      options?.signal?.throwIfAborted()
      return change()
    })
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #change(
    offset: number,
    length: number,
    options: IoOptions | undefined,
    change: () => Promise<void>,
  ): Promise<void> {
    this.assertReadable()
    checkRange(offset, length, this.size)
    if (length === 0) return
    return this.#inTurn(options, async () => {
      // A resize may have come first.
      checkRange(offset, length, this.size)
      this.units.clear()
      try {
        await change()
      } finally {
        this.units.clear()
      }
    })
  }

  async #check(options: CheckOptions, writable: boolean): Promise<CheckResult> {
    this.#assertOpen()
    if (options.repair !== undefined && options.dryRun !== true && !writable) {
      throw new ImageError('IMG_READ_ONLY', `${this.storage.label} is not open for writing`, {
        source: this.storage.label,
      })
    }
    return this.#inOrder(options, async () => {
      if (options.repair === 'all' && options.dryRun !== true) this.#opened.assertNone()
      // What was written so far is part of what is checked.
      if (this.flush && this.driver.unreadable === undefined) await this.#flush(options)
      try {
        return (await this.driver.check?.(options)) as CheckResult
      } finally {
        this.units.clear()
      }
    })
  }

  async #amend(options: Readonly<Record<string, unknown>>, context: AmendOptions): Promise<void> {
    this.#assertOpen()
    const { force = false, secret = noSecret, onWarning, onProgress, signal } = context
    const wanted = parseOptions(this.format.amendOptions ?? {}, options, this.format.name)
    const given = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined))
    await this.#inOrder(context, async () => {
      this.#opened.assertNone()
      try {
        await this.driver.amend?.(given, {
          force,
          secret,
          warn: (message, code) => onWarning?.(message, code),
          resize: (size) => resizeDisk(this, size, { shrink: force, signal }),
          onProgress,
          signal,
        })
      } finally {
        this.units.clear()
      }
    })
  }

  /** A change of where data lies, not of what it is. */
  async #maintain(options: IoOptions | undefined, change: () => Promise<void>): Promise<void> {
    return this.#inTurn(options, async () => {
      this.units.clear()
      try {
        await change()
      } finally {
        this.units.clear()
      }
    })
  }

  async #setBacking(backing: Reference | undefined, options?: IoOptions): Promise<void> {
    await this.#inTurn(options, async () => {
      // What was written so far was told to last before the header changes.
      if (this.flush) await this.#flush(options)
      await this.driver.setBacking?.(backing, options)
      this.#rebased = new ImageError(
        'IMG_CLOSED',
        `${this.storage.label} has another backing file now: it has to be opened again`,
        { source: this.storage.label },
      )
    })
  }

  async #flush(options?: IoOptions): Promise<void> {
    await this.driver.map.flush?.(options)
    await this.storage.flush?.(options)
  }

  async #close(): Promise<void> {
    this.#onClose?.()
    try {
      await this.#turn
      if (this.flush && this.driver.unreadable === undefined) await this.#flush()
    } finally {
      try {
        await this.driver.close?.()
      } finally {
        if (!this.#borrowed) {
          try {
            await this.storage.close()
          } finally {
            await this.backing?.close()
          }
        }
      }
    }
  }
}
