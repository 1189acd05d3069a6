import {
  convert,
  type DiskImage,
  type Format,
  type NewVolume,
  openImage,
  parseOptions,
  referencesFrom,
  type SecretSource,
  sliceStorage,
  type VolumeStore,
} from '@img/core'
import { createTarget, nodeMover, type Target } from '@img/node'
import type { Context } from '../context.js'
import { existingWriter } from '../convert/existing.js'
import { readCreateValues } from '../create-options.js'
import type { DryRun } from '../dry-run/dry-run.js'
import type { DryStorage } from '../dry-run/dry-storage.js'
import { Failure } from '../errors.js'
import { openNamed } from '../open.js'
import type { ListedOption } from '../option-list.js'
import { humanSize } from '../sizes.js'
import { isShare, volumeSize } from '../volumes/size-argument.js'
import { type DiskSpec, parseDisk, parseVolume, type VolumeSpec } from '../volumes/specs.js'

/** What the command line asks for. */
export interface GroupRequest {
  readonly filename: string
  /** Bytes of the disk; absent: as much as the volumes need. */
  readonly size: number | undefined
  /** `-o`. */
  readonly given: readonly ListedOption[]
  /** `--lv`, `--pv`. */
  readonly volumes: readonly string[]
  readonly disks: readonly string[]
  readonly quiet: boolean
  readonly secret: SecretSource
  /** Nothing is made: what would be is told. */
  readonly dryRun: DryRun | undefined
}

/** A disk that is made. */
type NewDisk = Pick<Target, 'storage' | 'atomic' | 'commit' | 'abort'> | DryDisk

interface DryDisk {
  readonly storage: DryStorage
  readonly atomic: boolean
  commit(): Promise<void>
  abort(): Promise<void>
}

/** Makes disks with a group of volumes on them, filled where that was asked for. @throws {Failure} */
export async function makeGroup(format: Format, request: GroupRequest, context: Context): Promise<void> {
  const { filename, given, quiet, dryRun } = request
  const { values: texts, size: listed } = readCreateValues(
    { ...format, createOptions: format.groupOptions },
    given,
  )
  if (listed !== undefined && request.size !== undefined) {
    throw new Failure('The image size must be specified only once')
  }
  const size = request.size ?? listed
  const options = parseOptions(format.groupOptions ?? {}, texts, format.name)
  const specs = request.volumes.map(parseVolume)
  const sources = new Map<VolumeSpec, DiskImage>()
  const targets: NewDisk[] = []
  try {
    for (const spec of specs) {
      if (spec.from === undefined) continue
      const { from, fromFormat } = spec
      sources.set(spec, await openNamed(from, { format: fromFormat, secret: request.secret }, context))
    }
    const sizes = diskSizes(request, size ?? (await neededSize(format, request, specs, sources, options)))
    for (const [at, { path }] of sizes.entries()) {
      const target = dryRun === undefined ? await createTarget(path) : dryDisk(dryRun, path)
      targets.push(target)
      await target.storage.truncate(sizes[at]?.size ?? 0)
    }
    const signal = context.signal()
    await format.createGroup?.(
      targets.map(({ storage }) => storage),
      options,
      { signal },
    )
    const job = { format, targets, seed: texts.seed, context }
    const made = await makeVolumes(job, specs, sources)
    if (dryRun !== undefined) {
      if (!quiet) dryRun.print(...wouldMake(dryRun, sizes, made, sources))
      return
    }
    for (const [spec, source] of sources) await fill(job, spec.name, source)
    // What is under its name is there after a power cut, too.
    for (const { storage } of targets) await storage.flush()
    for (const target of targets) await target.commit()
    if (!quiet) {
      for (const { path, size } of sizes)
        context.announce(`Formatting '${path}', fmt=${format.name} size=${size}`)
      for (const { name, size } of made)
        context.announce(`Volume ${name}: ${humanSize(size)} (${size} bytes)`)
    }
  } catch (error) {
    throw error instanceof Failure || !(error instanceof RangeError)
      ? error
      : new Failure(`${filename}: ${error.message}`)
  } finally {
    await Promise.all(targets.map((target) => target.abort()))
    await Promise.all([...sources.values()].map((source) => source.close()))
  }
}

function dryDisk(dryRun: DryRun, path: string): DryDisk {
  const storage = dryRun.fresh(path)
  const close = (): Promise<void> => storage.close()
  return { storage, atomic: true, commit: close, abort: close }
}

/** What a dry run tells: the disks, and the volumes with where their content would come from. */
function wouldMake(
  dryRun: DryRun,
  disks: readonly { readonly path: string; readonly size: number }[],
  volumes: readonly { readonly name: string; readonly size: number }[],
  sources: ReadonlyMap<VolumeSpec, DiskImage>,
): string[] {
  const files = disks.map(({ path, size }) => {
    const how = dryRun.isThere(path) ? 'replaced by a disk' : 'made, a disk'
    return `${path} would be ${how} of ${humanSize(size)} (${size} bytes).`
  })
  const made = volumes.map(({ name, size }) => {
    const spec = [...sources.keys()].find((each) => each.name === name)
    const from = spec === undefined ? '' : `, with the content of ${spec.from}`
    return `Volume ${name} would be made: ${humanSize(size)} (${size} bytes)${from}.`
  })
  return [...files, ...made]
}

/** Bytes of one disk for all volumes. */
async function neededSize(
  format: Format,
  { disks }: GroupRequest,
  specs: readonly VolumeSpec[],
  sources: ReadonlyMap<VolumeSpec, DiskImage>,
  options: Readonly<Record<string, unknown>>,
): Promise<number | undefined> {
  const hint = 'say how large the disk is to be: img create -f lvm … FILE SIZE'
  if (disks.length > 0) throw new Failure('Image creation needs a size parameter', { hint })
  if (specs.length === 0) throw new Failure('Image creation needs a size parameter', { hint })
  const sizes = specs.map((spec) => {
    if (spec.size?.includes('%') === true) {
      throw new Failure(`${spec.size} of a disk of no size`, { hint })
    }
    return sizeOf(spec, sources, { name: '', extentSize: 1, free: 0, size: 0 })
  })
  return format.groupSize?.(sizes, options)
}

/** The disks and their sizes, the one named as FILE first. */
function diskSizes(
  { filename, disks }: GroupRequest,
  first: number | undefined,
): (DiskSpec & { readonly size: number })[] {
  if (first === undefined) throw new Failure('Image creation needs a size parameter')
  return [{ path: filename }, ...disks.map(parseDisk)].map((disk) => ({ ...disk, size: disk.size ?? first }))
}

function sizeOf(
  { name, size, stripes }: VolumeSpec,
  sources: ReadonlyMap<VolumeSpec, DiskImage>,
  group: { readonly name: string; readonly extentSize: number; readonly free: number; readonly size: number },
): number {
  const source = [...sources].find(([spec]) => spec.name === name)?.[1]
  const bytes = size === undefined ? source?.size : volumeSize(size, { group: group as never, stripes })
  if (bytes === undefined) throw new Failure(`--lv ${name} needs a size, as in --lv ${name}=8G`)
  assertRoom({ name, size: bytes }, source)
  return bytes
}

/** @throws {Failure} */
function assertRoom(
  { name, size }: { readonly name: string; readonly size: number },
  source: DiskImage | undefined,
): void {
  if (source === undefined || source.size <= size) return
  throw new Failure(`Volume ${name} of ${size} bytes has no room for the ${source.size} bytes of its source`)
}

interface Job {
  readonly format: Format
  readonly targets: readonly NewDisk[]
  readonly seed: string | undefined
  readonly context: Context
}

/** The group on the new disks. Closing it leaves them open. */
function openNew({ format, targets, seed, context }: Job, lv?: string): Promise<DiskImage> {
  const [first, ...others] = targets.map(({ storage }) => sliceStorage(storage, 0))
  const names = others.map((_, at) => `${at + 1}`)
  return openImage(first as NonNullable<typeof first>, {
    format,
    writable: true,
    references: referencesFrom(
      Object.fromEntries(names.map((name, at) => [name, others[at] as NonNullable<typeof first>])),
    ),
    options: {
      ...(names.length > 0 && { pv: names }),
      ...(lv !== undefined && { lv }),
      ...(seed !== undefined && { seed: `${seed}/volumes` }),
    },
    onWarning: context.warn,
  })
}

async function makeVolumes(
  job: Job,
  specs: readonly VolumeSpec[],
  sources: ReadonlyMap<VolumeSpec, DiskImage>,
): Promise<{ readonly name: string; readonly size: number }[]> {
  await using image = await openNew(job)
  const store = image.volumes as VolumeStore & Required<Pick<VolumeStore, 'create'>>
  const made: { readonly name: string; readonly size: number }[] = []
  for (const spec of specs) {
    const { name, stripes, stripeSize, tags, uuid } = spec
    const size = sizeOf(spec, sources, await store.info())
    const atMost = spec.size !== undefined && isShare(spec.size)
    const wanted: NewVolume = { name, size, atMost, stripes, stripeSize, tags, uuid }
    const volume = await store.create(wanted, { signal: job.context.signal() })
    assertRoom(volume, sources.get(spec))
    made.push(volume)
  }
  return made
}

async function fill(job: Job, lv: string, source: DiskImage): Promise<void> {
  await using image = await openNew(job, lv)
  // A new file reads as zeros; a device keeps what it held.
  const isZero = job.targets.every(({ atomic }) => atomic)
  await convert(source, existingWriter(image, { isZero }), { signal: job.context.signal(), mover: nodeMover })
}
