import {
  alignUp,
  type BlockDevice,
  convert,
  createRegistry,
  createWriter,
  type Format,
  type FormatRegistry,
  ImageError,
  type ImageWriter,
  memoryStorage,
  parseOptions,
} from '@img/core'
import { deviceOf, mixedDisk, smallDisk } from './content.js'
import { works } from './fault.js'
import { flat } from './flat-format.js'
import { guardFormat } from './guard/format.js'
import type { Watch } from './guard/map.js'
import { ImageFiles, loadBytes } from './image-files.js'
import { Random } from './random.js'
import { Session, using } from './session.js'
import { SparseBytes } from './sparse-bytes.js'
import type { Sample, Subject } from './subject.js'

/** Values for create options. */
export type Values = Readonly<Record<string, unknown>>

/** An image with what it is known to hold. */
export interface Specimen {
  readonly files: ImageFiles
  readonly size: number
  /** What the guest sees, where it is known. */
  readonly content: SparseBytes | undefined
  readonly sha256?: string | undefined
  readonly openOptions?: Values | undefined
}

/** Where a specimen comes from: a sample, or the format itself. */
export interface Source<S extends Specimen = Specimen> {
  readonly name: string
  /** The specimen, made once. Fork its files before changing them. */
  specimen(): Promise<S>
}

/** What images made with some options can do once opened for writing. */
export interface Abilities {
  readonly write: boolean
  readonly discard: boolean
  readonly resize: boolean
  readonly snapshots: { readonly create: boolean; readonly apply: boolean; readonly delete: boolean }
}

/** How an image is made. */
export interface Making {
  readonly values?: Values | undefined
  readonly compress?: boolean | undefined
  /** Files that the new image may refer to. */
  readonly others?: ReadonlyMap<string, SparseBytes> | undefined
}

/** The smallest piece of disk that tests of a format without clusters work with. */
const smallestUnit = 4096

/** The format under test with all that the tests of its groups share. */
export class Kit {
  readonly subject: Subject
  /** The format, with what it gives to core checked. */
  readonly format: Format
  readonly registry: FormatRegistry
  /** Told of lookups, where a test wants to know. */
  readonly watch: Watch = {}
  /** The sets of create options to test with; empty where the format cannot create. */
  readonly variants: readonly Values[]
  readonly #known = new Map<string, unknown>()

  constructor(subject: Subject) {
    this.subject = subject
    this.format = guardFormat(subject.format, this.watch)
    const { create } = subject.format
    if (create === undefined && (subject.samples ?? []).length === 0) {
      throw new TypeError(`format ${subject.format.name} cannot create images: give samples`)
    }
    this.variants = create ? (subject.options ?? [{}]) : []
    const others = [flat, ...(subject.formats ?? [])].filter(({ name }) => name !== subject.format.name)
    this.registry = createRegistry([this.format])
    for (const format of others) this.registry.register(format, { replace: true })
  }

  /** How often something is to be tried that is tried `count` times every day. */
  times(count: number): number {
    return Math.max(1, Math.round(count * depthOf(this.subject)))
  }

  get seed(): number {
    return this.subject.seed ?? 1
  }

  random(name: string): Random {
    return new Random(`${name} ${this.seed}`)
  }

  /** Images to read: one of every set of options, and the samples. */
  get sources(): readonly Source[] {
    return [...this.variants.map((values) => this.source(values, mixedDisk)), ...this.samples]
  }

  /** The same, as small as can be, to be damaged. */
  get smallSources(): readonly Source[] {
    return [...this.variants.map((values) => this.source(values, smallDisk)), ...this.samples]
  }

  get samples(): readonly Source[] {
    return (this.subject.samples ?? []).map((sample) => ({
      name: `sample ${sample.name}`,
      specimen: () => this.once(`sample ${sample.name}`, () => loadSample(sample)),
    }))
  }

  /** An image of a disk laid out for the cluster size that these options give. */
  source(values: Values, layout: (unit: number) => SparseBytes): Source {
    const name = `an image made with ${nameOf(values)}`
    return {
      name,
      specimen: () =>
        this.once(`${name} ${layout.name}`, async () => {
          const content = layout(await this.unit(values))
          const files = await this.make(content, { values })
          return { files, size: content.size, content }
        }),
    }
  }

  /** Makes an image of a disk. The disk is grown where the format rounds its size up. */
  async make(content: SparseBytes, making: Making = {}, source?: BlockDevice): Promise<ImageFiles> {
    const { values, compress } = making
    const files = new ImageFiles(new SparseBytes(), making.others)
    const session = new Session(this, files, { writable: true })
    const size = content.size
    await works(`making an image of ${size} bytes with ${nameOf(values)}`, async () => {
      const options = { size, options: values, compress, ...session.leave }
      const writer = await createWriter(this.format, session.main, options)
      try {
        await convert(source ?? deviceOf(content), writer)
      } finally {
        await writer.close?.()
      }
    })
    content.truncate(await this.sizeOf(files, size, values))
    return files
  }

  /** The size that an image has got where `requested` was asked for; what is unlawful stays for the tests to find. */
  async sizeOf(files: ImageFiles, requested: number, values: Values = {}): Promise<number> {
    const expected = this.subject.virtualSize?.(requested, values)
    if (expected !== undefined) return expected
    const actual = await using(this, files.fork(), { chain: false }, async ({ size }) => size)
    return actual === alignUp(requested, 512) ? actual : requested
  }

  /** Guest bytes in a cluster with these options; a few KiB where the format has none. */
  unit(values: Values): Promise<number> {
    return this.once(`unit ${nameOf(values)}`, async () => {
      const session = new Session(this, new ImageFiles(), { writable: true })
      const options = { size: 1024 * 1024, options: values, ...session.leave }
      const writer = await works(`starting an image with ${nameOf(values)}`, () =>
        createWriter(this.format, memoryStorage(), options),
      )
      await writer.close?.()
      return unitOf(writer)
    })
  }

  /** What an image made with these options offers when opened for writing. */
  abilities(values: Values): Promise<Abilities> {
    return this.once(`abilities ${nameOf(values)}`, async () =>
      this.abilitiesOf(await this.source(values, smallDisk).specimen()),
    )
  }

  /** What this image offers when opened for writing: an overlay may offer less than an image without a backing file. */
  async abilitiesOf({ files }: Specimen): Promise<Abilities> {
    const none = { write: false, discard: false, resize: false }
    const nothing = { ...none, snapshots: { create: false, apply: false, delete: false } }
    try {
      return await using(this, files.fork(), { writable: true }, async (image) => ({
        write: image.write !== undefined,
        discard: image.discard !== undefined,
        resize: image.resize !== undefined,
        snapshots: {
          create: image.snapshots?.create !== undefined,
          apply: image.snapshots?.apply !== undefined,
          delete: image.snapshots?.delete !== undefined,
        },
      }))
    } catch (error) {
      const { cause } = error as Error
      if (ImageError.is(cause, 'IMG_UNSUPPORTED') || ImageError.is(cause, 'IMG_READ_ONLY')) return nothing
      throw error
    }
  }

  /** Checked values of the open options, as core would hand them to the format. */
  openValues(given: Values | undefined): Values {
    return parseOptions(this.subject.format.openOptions ?? {}, given ?? this.subject.openOptions ?? {})
  }

  /** Does something once and keeps the result. */
  once<T>(key: string, make: () => Promise<T>): Promise<T> {
    let known = this.#known.get(key) as Promise<T> | undefined
    if (known === undefined) {
      known = make()
      this.#known.set(key, known)
    }
    return known
  }
}

/** Guest bytes in a cluster of a new image; a few KiB where it has none. */
export function unitOf({ clusterSize }: ImageWriter): number {
  return clusterSize < 512 ? smallestUnit : clusterSize
}

async function loadSample(sample: Sample): Promise<Specimen> {
  const others: [string, SparseBytes][] = []
  for (const [name, load] of Object.entries(sample.references ?? {})) {
    others.push([name, await loadBytes(load())])
  }
  const { size, sha256, openOptions } = sample
  const files = new ImageFiles(await loadBytes(sample.file()), others)
  const content = sample.content && (await loadBytes(sample.content()))
  return { files, size, content, sha256, openOptions }
}

/** Create options in words. */
export function nameOf(values: Values = {}): string {
  const parts = Object.entries(values).map(([name, value]) => `${name}=${String(value)}`)
  return parts.length > 0 ? parts.join(',') : 'default options'
}

function depthOf(subject: Subject): number {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } }
  const depth = subject.depth ?? Number(process?.env?.IMG_CONFORMANCE_DEPTH ?? 1)
  if (!(depth > 0)) throw new RangeError(`depth ${depth} is not a positive number`)
  return depth
}
