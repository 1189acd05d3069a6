import type { IoOptions, MaybePromise, WarningListener } from '@img/core'
import { BuildLevel } from './build-level.js'
import { cacheVolume } from './cache.js'
import type { PoolParts } from './check-thin.js'
import { lvmError } from './errors.js'
import { SECTOR } from './limits.js'
import { MirrorMarks } from './mirror-marks.js'
import { mirrorVolume } from './raid.js'
import { raidSegment } from './raid-segment.js'
import { type SnapshotLink, snapshotLinks } from './snapshot-links.js'
import { isInvalid, snapshotVolume } from './snapshot-store.js'
import { ThinPool } from './thin.js'
import { errorVolume, joinVolumes, sliceVolume, stripedVolume, type Volume, zeroVolume } from './volume.js'
import { type LogicalVolume, Reader, type Segment, type VolumeGroup } from './volume-group.js'
import { assertWritableVolume } from './writable-volume.js'
import { type Disks, inPlace, type Target } from './write-target.js'

/** Segment types that are known and not read. */
const refused: ReadonlySet<string> = new Set(['vdo', 'vdo-pool', 'writecache', 'integrity'])

/** Makes volumes of the logical volumes of a group. */
export class LogicalVolumes {
  readonly #group: VolumeGroup
  readonly #physical: ReadonlyMap<string, Volume>
  readonly #snapshots: ReadonlyMap<string, SnapshotLink>
  readonly #warn: WarningListener
  readonly #disks: Disks | undefined
  /** What was made, each once however many stand on it, with the levels that it has. */
  readonly #made = new Map<string, Made<Volume>>()
  readonly #pools = new Map<string, Made<ThinPool>>()

  /**
   * @param physical the physical volumes by the names in the metadata, from the first extent on
   * @param disks what they are on, where they are to be written
   */
  constructor(
    group: VolumeGroup,
    physical: ReadonlyMap<string, Volume>,
    warn: WarningListener,
    disks?: Disks,
  ) {
    this.#disks = disks
    this.#group = group
    this.#physical = physical
    this.#snapshots = snapshotLinks(group)
    this.#warn = warn
  }

  /**
   * A volume as its users see it: a snapshot's name stands for the snapshot, not for its store.
   * @throws {ImageError} IMG_NOT_FOUND, IMG_CORRUPT, IMG_UNSUPPORTED for segment types that are not read.
   */
  async open(name: string): Promise<Volume> {
    const link = this.#snapshots.get(name)
    if (link === undefined) return this.#build(name)
    if (link.merging) {
      throw lvmError(
        'IMG_UNSUPPORTED',
        `snapshot ${name} is being merged into ${link.origin}`,
        undefined,
        undefined,
        'activate it with lvm2, so that the merge can end',
      )
    }
    const origin = await this.#build(link.origin, new BuildLevel(name))
    const size = Math.min(origin.size, link.extents * this.#group.extentSize)
    return snapshotVolume(name, sliceVolume(origin, 0, size), await this.#build(name), link.chunk)
  }

  /**
   * A volume to be written, as its users see it.
   * @param readsEnded as in OpenContext
   * @throws {ImageError} as `open`, and where it is not to be written: IMG_READ_ONLY, IMG_UNSUPPORTED.
   */
  async openTarget(
    name: string,
    readsEnded: () => MaybePromise<void>,
  ): Promise<{ readonly volume: Volume; readonly target: Target }> {
    assertWritableVolume(this.#group, name, this.#snapshots)
    const flush = async (options?: IoOptions): Promise<void> => this.#disks?.flush(options)
    const link = this.#snapshots.get(name)
    if (link !== undefined) {
      const { SnapshotTarget, WritableStore } = await import('./snapshot-write.js')
      const whole = await this.#build(link.origin, new BuildLevel(name))
      const origin = sliceVolume(whole, 0, Math.min(whole.size, link.extents * this.#group.extentSize))
      const store = await WritableStore.open(name, await this.#build(name), link.chunk)
      const target = new SnapshotTarget(store, origin)
      return { volume: target.volume(), target }
    }
    const own = await this.#ownTarget(name, flush, readsEnded)
    const stores = await this.#storesOf(name)
    if (stores.length === 0) return own
    const { OriginTarget } = await import('./snapshot-write.js')
    return { ...own, target: new OriginTarget({ ...own, origin: own.volume, stores, flush }) }
  }

  /** A volume as it is, also one that users do not see, such as the store of a snapshot. */
  openHidden(name: string): Promise<Volume> {
    return this.#build(name)
  }

  /** What a thin pool is made of. */
  async poolParts(name: string): Promise<PoolParts> {
    const pool = this.#poolReader(name, 'thin-pool')
    return {
      name,
      metadata: await this.#build(pool.text('metadata'), new BuildLevel(name)),
      data: await this.#build(pool.text('pool'), new BuildLevel(name)),
      chunk: pool.number('chunk_size') * SECTOR,
      transaction: pool.optionalNumber('transaction_id'),
    }
  }

  /** How a volume would be written if it had no snapshots. */
  async #ownTarget(
    name: string,
    flush: (options?: IoOptions) => Promise<void>,
    readsEnded: () => MaybePromise<void>,
  ): Promise<{ readonly volume: Volume; readonly target: Target }> {
    const { segments } = this.#group.logicalVolumes.get(name) as LogicalVolume
    const [segment] = segments
    if (segment?.type !== 'thin') {
      const volume = await this.#build(name)
      return { volume, target: inPlace(volume, name) }
    }
    const { ThinTarget } = await import('./thin-target.js')
    const read = new Reader(segment.config, `a segment of ${name}`)
    const poolName = read.text('thin_pool')
    const { metadata, data, chunk, transaction } = await this.poolParts(poolName)
    const size = segment.count * this.#group.extentSize
    const device = read.number('device_id')
    const external = read.optionalText('external_origin')
    const origin = external === undefined ? undefined : await this.#build(external, new BuildLevel(name))
    const target = new ThinTarget({
      name: poolName,
      metadata,
      data,
      device,
      chunk,
      transaction,
      external: external !== undefined,
      read: () => new ThinPool(poolName, metadata, data, chunk, this.#warn).volume(device, size, origin),
      flush,
      readsEnded,
    })
    await target.check()
    return { volume: target.volume(), target }
  }

  /** The stores of the snapshots of an origin. What is invalid already gets no more copies. */
  async #storesOf(
    name: string,
  ): Promise<{ readonly store: import('./snapshot-write.js').WritableStore; readonly size: number }[]> {
    const stores: { store: import('./snapshot-write.js').WritableStore; size: number }[] = []
    for (const { origin, store, chunk, extents } of this.#snapshots.values()) {
      if (origin !== name) continue
      const { WritableStore } = await import('./snapshot-write.js')
      const volume = await this.#build(store)
      if (await isInvalid(volume)) continue
      const size = extents * this.#group.extentSize
      stores.push({ store: await WritableStore.open(store, volume, chunk), size })
    }
    return stores
  }

  /** A volume as it is stored: of a snapshot, its store. */
  stored(name: string): Promise<Volume> {
    return this.#build(name)
  }

  /** @param above the volume that is built on this one */
  async #build(name: string, above?: BuildLevel): Promise<Volume> {
    const volume = this.#group.logicalVolumes.get(name)
    if (volume === undefined)
      throw lvmError('IMG_NOT_FOUND', `there is no logical volume ${name} in ${this.#group.name}`)
    return once(this.#made, name, above, async (level) => {
      const parts: Volume[] = []
      for (const segment of volume.segments) parts.push(await this.#segment(volume, segment, level))
      return joinVolumes(parts)
    })
  }

  async #segment(volume: LogicalVolume, segment: Segment, level: BuildLevel): Promise<Volume> {
    const { type } = segment
    const size = segment.count * this.#group.extentSize
    const read = new Reader(segment.config, `a segment of ${volume.name}`)
    if (type === 'striped' || type === 'linear') return this.#striped(read, size, level)
    if (type === 'zero') return zeroVolume(size)
    if (type === 'error')
      return errorVolume(size, `logical volume ${volume.name} is of type error: it cannot be read`)
    if (type === 'mirror') {
      const legs = await this.#areas(read, 'mirrors', size, level)
      return mirrorVolume(volume.name, legs, size, await this.#mirrorMarks(legs, read, size, level))
    }
    if (type.startsWith('raid')) {
      return raidSegment({
        name: volume.name,
        segment,
        extentSize: this.#group.extentSize,
        build: (image) => this.#build(image, level),
        disks: this.#disks,
      })
    }
    if (type === 'thin') return this.#thin(read, size, level)
    if (type === 'cache') return this.#cache(volume.name, segment, read, level)
    if (type === 'thin-pool' || type === 'cache-pool') {
      throw lvmError(
        'IMG_UNSUPPORTED',
        `${volume.name} is a ${type}: it holds other volumes and has no content of its own`,
      )
    }
    const reason = refused.has(type) ? 'is not supported' : 'is not known'
    throw lvmError('IMG_UNSUPPORTED', `logical volume ${volume.name}: segment type ${type} ${reason}`)
  }

  async #striped(read: Reader, size: number, level: BuildLevel): Promise<Volume> {
    const count = read.number('stripe_count')
    const areas = await this.#areas(read, 'stripes', size / count, level)
    const [only] = areas
    if (areas.length !== count || only === undefined) {
      throw lvmError('IMG_CORRUPT', `metadata: ${count} stripes, but ${areas.length} areas, in ${level.name}`)
    }
    return count === 1 ? only : stripedVolume(areas, chunkOf(read, level))
  }

  /** Areas as `name, first extent` pairs, of physical or logical volumes. `size`: bytes of each. */
  async #areas(read: Reader, key: string, size: number, level: BuildLevel): Promise<Volume[]> {
    const list = read.list(key)
    const areas: Volume[] = []
    for (let at = 0; at + 1 < list.length; at += 2) {
      const name = String(list[at])
      const extent = Number(list[at + 1])
      const physical = this.#physical.get(name)
      const volume = physical ?? (await this.#build(name, level))
      if (!Number.isSafeInteger(extent) || extent < 0) {
        throw lvmError('IMG_CORRUPT', `metadata: an area of ${level.name} starts at extent ${list[at + 1]}`)
      }
      areas.push(sliceVolume(volume, extent * this.#group.extentSize, size))
    }
    return areas
  }

  async #mirrorMarks(
    legs: readonly Volume[],
    read: Reader,
    size: number,
    level: BuildLevel,
  ): Promise<MirrorMarks | undefined> {
    if (this.#disks === undefined) return undefined
    if (legs.some(({ missing }) => missing)) {
      throw lvmError('IMG_UNSUPPORTED', `${level.name} is not written: one of its copies is missing`)
    }
    const name = read.optionalText('mirror_log')
    const log = name === undefined ? undefined : await this.#build(name, level)
    const region = (read.optionalNumber('region_size') ?? 0) * SECTOR
    if (log !== undefined && region === 0) {
      throw lvmError('IMG_CORRUPT', `metadata: ${level.name} has a log with regions of no size`)
    }
    return new MirrorMarks(this.#disks, log, Math.max(SECTOR, region), size)
  }

  async #thin(read: Reader, size: number, level: BuildLevel): Promise<Volume> {
    const poolName = read.text('thin_pool')
    const pool = await once(this.#pools, poolName, level, (beneath) => this.#openPool(poolName, beneath))
    const external = read.optionalText('external_origin')
    const origin = external === undefined ? undefined : await this.#build(external, level)
    return pool.volume(read.number('device_id'), size, origin)
  }

  async #openPool(name: string, level: BuildLevel): Promise<ThinPool> {
    const read = this.#poolReader(name, 'thin-pool')
    const metadata = await this.#build(read.text('metadata'), level)
    const data = await this.#build(read.text('pool'), level)
    return new ThinPool(name, metadata, data, read.number('chunk_size') * SECTOR, this.#warn)
  }

  async #cache(name: string, { typeFlags }: Segment, read: Reader, level: BuildLevel): Promise<Volume> {
    const origin = await this.#build(read.text('origin'), level)
    const poolName = read.text('cache_pool')
    if (typeFlags.includes('CACHE_USES_CACHEVOL')) {
      const volume = await this.#build(poolName, level)
      const part = (start: string, length: string): Volume =>
        sliceVolume(volume, read.number(start) * SECTOR, read.number(length) * SECTOR)
      return cacheVolume(
        name,
        origin,
        part('metadata_start', 'metadata_len'),
        part('data_start', 'data_len'),
        chunkBytes(read),
        this.#disks,
      )
    }
    const pool = this.#poolReader(poolName, 'cache-pool')
    const metadata = await this.#build(pool.text('metadata'), level)
    const data = await this.#build(pool.text('data'), level)
    return cacheVolume(name, origin, metadata, data, chunkBytes(pool), this.#disks)
  }

  #poolReader(name: string, type: string): Reader {
    const segment = this.#group.logicalVolumes.get(name)?.segments[0]
    if (segment?.type !== type) throw lvmError('IMG_CORRUPT', `metadata: ${name} is not a ${type}`)
    return new Reader(segment.config, `pool ${name}`)
  }
}

/** Something made, with the levels that it has. */
interface Made<T> {
  readonly value: T
  readonly height: number
}

/** Makes something where it was not made before. @throws {ImageError} IMG_CORRUPT as {@link BuildLevel}. */
async function once<T>(
  made: Map<string, Made<T>>,
  name: string,
  above: BuildLevel | undefined,
  make: (level: BuildLevel) => Promise<T>,
): Promise<T> {
  let known = made.get(name)
  if (known === undefined) {
    const level = new BuildLevel(name, above)
    known = { value: await make(level), height: level.height }
    made.set(name, known)
  }
  above?.over(known.height)
  return known.value
}

function chunkBytes(read: Reader): number | undefined {
  const sectors = read.optionalNumber('chunk_size')
  return sectors === undefined ? undefined : sectors * SECTOR
}

function chunkOf(read: Reader, level: BuildLevel): number {
  const chunk = read.number('stripe_size') * SECTOR
  if (chunk === 0) throw lvmError('IMG_CORRUPT', `metadata: ${level.name} has stripes of no size`)
  return chunk
}
