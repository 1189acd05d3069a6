import { Readers } from './access/readers.js'
import { deviceStorage } from './device-storage.js'
import { Disk } from './disk.js'
import { ImageError } from './errors.js'
import type { Driver, Format, OpenContext, Reference } from './format.js'
import type { DiskImage } from './image.js'
import { parseOptions } from './options.js'
import { probeFormat } from './probe.js'
import { denyReferences, describe, type OpenedReference, type ReferenceResolver } from './reference.js'
import { defaultRegistry, type FormatRegistry } from './registry.js'
import { noSecret, type SecretSource } from './secret.js'
import { type IoOptions, isWritable, type Storage } from './storage.js'
import type { WarningListener } from './warning.js'

/** Longest backing chain, the image itself included. */
export const maxChainDepth = 64

/** Options of {@link openImage}. */
export interface OpenOptions extends IoOptions {
  /** Default: the default registry. */
  readonly registry?: FormatRegistry | undefined
  /** Name of the format, or the format. Absent: found by probing. */
  readonly format?: string | Format | undefined
  /** The image is to be changed. Default false. */
  readonly writable?: boolean | undefined
  /**
   * Only for `info`: opens no other image and no data file, and of an image's own extents, through the gate, only those that
   * tell something of themselves. Data cannot be read where a reference would be needed. Default false.
   */
  readonly inspect?: boolean | undefined
  /** Opened to be checked or repaired: damage is no reason to refuse. Default false. */
  readonly repair?: boolean | undefined
  /** What can still be read of a damaged image is wanted. Default false. */
  readonly salvage?: boolean | undefined
  /** Gives passphrases of encrypted images, also of those further down the chain. Default: there is none. */
  readonly secret?: SecretSource | undefined
  /**
   * Which images down the chain are opened to be changed as well (`commit`). `depth` is 1 for the image's own backing file;
   * `from` names it by `reference`. Default: none.
   */
  readonly writableBacking?:
    | ((layer: { readonly depth: number; readonly reference: Reference; readonly from: Storage }) => boolean)
    | undefined
  /** Open the backing chain. Default true; never where `inspect`. */
  readonly chain?: boolean | undefined
  /** The gate for backing files, data files and extents. Default: deny. */
  readonly references?: ReferenceResolver | undefined
  /** Values for the format's open options. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
  /** Told what the user should know. */
  readonly onWarning?: WarningListener | undefined
}

/**
 * Opens an image and, through the gate, its backing chain. The image owns the storage from here on: closing it closes the
 * storage, also where opening fails.
 * @throws {ImageError} IMG_UNKNOWN_FORMAT, IMG_PLUGIN_MISSING, IMG_AMBIGUOUS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED,
 * IMG_UNSUPPORTED, IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING, IMG_CHAIN_LOOP, …
 */
export async function openImage(storage: Storage, options: OpenOptions = {}): Promise<DiskImage> {
  return openDisk(storage, options, [])
}

/** Options of an image that may be a part of another. */
interface AnyOpenOptions extends OpenOptions {
  readonly inside?: boolean | undefined
}

async function openDisk(file: Storage, options: AnyOpenOptions, above: readonly Storage[]): Promise<Disk> {
  let driver: Driver | undefined
  let storage = file
  try {
    options.signal?.throwIfAborted()
    const format = await chooseFormat(storage, options)
    if (format.onDisk) storage = await diskIn(file, options)
    const readers = new Readers()
    driver = await openDriver(storage, format, options, readers)
    const follow = driver.backing !== undefined && options.inspect !== true && options.chain !== false
    const backing = follow ? await openBacking(driver, storage, options, [...above, storage]) : undefined
    return new Disk({ format, driver, storage, backing, readers, writable: options.writable })
  } catch (error) {
    await driver?.close?.().catch(() => undefined)
    await storage.close().catch(() => undefined)
    throw error
  }
}

function openDriver(
  storage: Storage,
  format: Format,
  options: AnyOpenOptions,
  readers: Readers,
): Promise<Driver> {
  const { references = denyReferences, inspect = false, writable = false, signal } = options
  const { repair = false, salvage = false, secret = noSecret } = options
  return format.open(storage, {
    options: parseOptions(format.openOptions ?? {}, options.options ?? {}, format.name),
    writable,
    inspect,
    repair,
    salvage,
    secret,
    signal,
    async openReference(reference) {
      // Extents are parts of the image itself.
      const gate = inspect && reference.kind !== 'extent' ? denyReferences : references
      // Of a parent, only who it is is asked here: what is to be changed is opened down the chain.
      const change = writable && reference.kind !== 'parent'
      const opened = await gate.open(reference, storage, { writable: change, signal })
      return format.onDisk ? diskIn(opened.storage, options) : opened.storage
    },
    openInside: options.inside === true ? undefined : (part, named) => openInside(part, named, options),
    ...(writable && addsTo(storage, references, signal)),
    readsEnded: () => readers.ended(),
    warn: (message, code) => options.onWarning?.(message, code),
  })
}

/** How an image that is changed gets one more file. */
function addsTo(
  storage: Storage,
  references: ReferenceResolver,
  signal: AbortSignal | undefined,
): Pick<OpenContext, 'addReference'> {
  if (references.add === undefined) return {}
  const add = references.add.bind(references)
  return { addReference: (reference) => add(reference, storage, { signal }) }
}

/**
 * The guest bytes of the image in a file; the file's own where it is a raw disk. What it cannot open it closes.
 */
async function diskIn(file: Storage, options: OpenOptions): Promise<Storage> {
  const { registry = defaultRegistry, signal } = options
  try {
    const format = await probeFormat(file, { registry, signal })
    if (format === undefined || format.onDisk) return file
    return deviceStorage(await openDisk(file, { ...options, format, options: {} }, []))
  } catch (error) {
    await file.close().catch(() => undefined)
    throw error
  }
}

/** A disk that is a part of another image. What it cannot open it closes. */
async function openInside(part: Storage, named: string | undefined, options: OpenOptions): Promise<Disk> {
  const { registry = defaultRegistry, inspect, salvage, signal, secret, onWarning } = options
  try {
    const format =
      named === undefined ? await probeFormat(part, { registry, signal }) : await registry.load(named)
    if (format === undefined || format.onDisk) {
      throw new ImageError('IMG_UNKNOWN_FORMAT', `${part.label}: no format recognises this disk`, {
        source: part.label,
      })
    }
    return await openDisk(
      part,
      { registry, format, inspect, salvage, signal, secret, onWarning, inside: true },
      [],
    )
  } catch (error) {
    await part.close().catch(() => undefined)
    throw error
  }
}

async function chooseFormat(storage: Storage, options: OpenOptions): Promise<Format> {
  const { format, registry = defaultRegistry } = options
  if (typeof format === 'object') return format
  if (format !== undefined) return registry.load(format)
  const probed = await probeFormat(storage, { registry, signal: options.signal })
  if (probed !== undefined) return probed
  const raw = options.writable === true ? undefined : await loadRaw(registry)
  if (raw === undefined) {
    throw new ImageError('IMG_UNKNOWN_FORMAT', `${storage.label}: no format recognises this file`, {
      source: storage.label,
      hint: 'if it is a raw disk, say so with -f raw',
    })
  }
  options.onWarning?.(
    `${storage.label}: no format recognises this file; it is read as raw. Say -f raw to mean that`,
    'WARN_GUESSED_RAW',
  )
  return raw
}

async function loadRaw(registry: FormatRegistry): Promise<Format | undefined> {
  try {
    return await registry.load('raw')
  } catch (error) {
    if (ImageError.is(error, 'IMG_PLUGIN_MISSING')) return undefined
    throw error
  }
}

async function openBacking(
  driver: Driver,
  from: Storage,
  options: OpenOptions,
  above: readonly Storage[],
): Promise<Disk> {
  const reference = driver.backing as Reference
  if (above.length >= maxChainDepth) {
    throw new ImageError(
      'IMG_CHAIN_LOOP',
      `${from.label}: the backing chain is longer than ${maxChainDepth} images`,
      { source: from.label },
    )
  }
  const writable = options.writableBacking?.({ depth: above.length, reference, from }) ?? false
  const opened = await (options.references ?? denyReferences).open(reference, from, {
    writable,
    signal: options.signal,
  })
  const { storage } = opened
  if (above.some((other) => isSame(other, storage))) {
    await storage.close()
    throw new ImageError(
      'IMG_CHAIN_LOOP',
      `${from.label}: ${describe(reference)} is an image above it in the same chain`,
      {
        source: from.label,
      },
    )
  }
  const format = backingFormat(reference, opened)
  const below: OpenOptions = { ...options, writable, options: opened.options ?? {} }
  const backing =
    writable && format === undefined
      ? await openUnnamed(storage, below, above)
      : await openDisk(storage, { ...below, format }, above)
  try {
    await driver.checkBacking?.(backing, { signal: options.signal })
  } catch (error) {
    await backing.close().catch(() => undefined)
    throw error
  }
  return backing
}

/** A backing file whose format nobody recorded (qcow and cow cannot), to be written. What it cannot open it closes. */
async function openUnnamed(storage: Storage, options: OpenOptions, above: readonly Storage[]): Promise<Disk> {
  const { registry = defaultRegistry, signal, onWarning } = options
  let format: Format | undefined
  try {
    format = await probeFormat(storage, { registry, signal })
  } catch (error) {
    await storage.close().catch(() => undefined)
    throw error
  }
  if (format !== undefined || !isWritable(storage)) return openDisk(storage, { ...options, format }, above)
  onWarning?.(
    `${storage.label}: no format recognises this file; it is written as raw, but for what would make it look like another format`,
    'WARN_GUESSED_RAW',
  )
  const { guessedRaw } = await import('./guessed-raw.js')
  return openDisk(guessedRaw(storage, { registry, signal }), { ...options, format: 'raw' }, above)
}

function isSame(a: Storage, b: Storage): boolean {
  return a === b || (a.identity !== undefined && a.identity === b.identity)
}

function backingFormat(reference: Reference, opened: OpenedReference): string | undefined {
  // qemu-img records the node name of the file driver for raw files written by old versions.
  const recorded =
    reference.format === 'file' || reference.format === 'host_device' ? 'raw' : reference.format
  return opened.format ?? recorded
}
