import { alignDown, type Driver, ImageError, type OpenContext, type Storage } from '@img/core'
import { backingReference } from './backing-name.js'
import { type DriverParts, Qcow2Driver } from './driver.js'
import type { Encryption } from './encrypt-open.js'
import { corrupt, hex, qcow2Error, truncated } from './errors.js'
import { ExtensionType, stringExtension } from './extensions.js'
import { Autoclear, Incompatible } from './features.js'
import { CryptMethod, type Header, headerClusterSize, parseHeader } from './header.js'
import { SECTOR } from './limits.js'
import type { Salvaged } from './salvage.js'
import { readSnapshots } from './snapshot.js'
import { L2Cache } from './tables.js'

/** Bytes of the first read: the whole header area for clusters up to 64 KiB. */
const HEAD_BYTES = 65536

/**
 * Reads and checks the header of an image.
 * @throws {ImageError} as {@link parseHeader}.
 */
export async function readHeader(
  storage: Storage,
  context: Pick<OpenContext, 'signal' | 'repair' | 'salvage'> = {},
): Promise<Header> {
  const { label, size } = storage
  const read = async (length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(Math.min(length, size))
    if (storage.readSync?.(0, bytes) !== true) await storage.read(0, bytes, context)
    return bytes
  }
  let bytes = await read(HEAD_BYTES)
  const clusterSize = headerClusterSize(bytes, label)
  if (clusterSize > HEAD_BYTES) bytes = await read(clusterSize)
  return parseHeader(bytes.subarray(0, clusterSize), label, isTolerant(context))
}

/**
 * Opens an image for reading. References are opened only through the context.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE,
 * IMG_REFERENCE_DENIED, IMG_REFERENCE_MISSING.
 */
export async function openQcow2(storage: Storage, context: OpenContext): Promise<Driver> {
  const salvaged = context.salvage ? await salvage(storage, context) : undefined
  const header = salvaged?.header ?? (await readHeader(storage, context))
  const { label } = storage
  const tolerant = isTolerant(context)
  if (context.writable && !tolerant) checkWritable(header, label)
  const l1Error = l1Outside(header, storage)
  if (l1Error && !tolerant) {
    // What the header says can be told without it: a copy that was cut short can still be looked at.
    if (!context.inspect) throw l1Error
    context.warn(l1Error.message, 'WARN_DAMAGED')
  }
  const size = alignDown(header.size, SECTOR)
  if (size !== header.size) {
    context.warn(
      `${label}: the virtual size, ${header.size} bytes, is no multiple of ${SECTOR}; as in QEMU, ` +
        `the last ${header.size - size} bytes are not part of the disk`,
      'WARN_NOT_PART',
    )
  }
  const snapshots = await readSnapshots(storage, header, size, context).catch((error: unknown) => {
    // A check tells of it.
    if (!tolerant || !ImageError.is(error)) throw error
    return []
  })
  const dataFile = await openDataFile(storage, header, context)
  const backing = backingReference(header, label)
  const unlocked = await unlock(storage, dataFile.storage ?? storage, header, context).catch(
    async (error: unknown) => {
      await dataFile.storage?.close()
      throw error
    },
  )
  const unreadable = dataFile.error ?? unlocked.error ?? (salvaged?.l1 ? undefined : l1Error)
  const parts: DriverParts = {
    image: {
      header,
      storage,
      data: dataFile.storage ?? storage,
      encryption: unlocked.encryption,
      cache: new L2Cache(storage, 2 ** header.clusterBits),
    },
    size,
    snapshots,
    backing,
    unreadable,
    holes: context.inspect ? undefined : await holesShown(storage, header),
    dataFile: dataFile.storage,
    l1: salvaged?.l1,
  }
  if (context.repair) {
    const { RepairDriver } = await import('./changing.js')
    return new RepairDriver(parts)
  }
  if (!context.writable) return new Qcow2Driver(parts)
  try {
    // Loaded when needed: most runs only read.
    const { openWritable } = await import('./changing.js')
    return await openWritable(await closedCleanly(parts, context), context)
  } catch (error) {
    await dataFile.storage?.close()
    throw error
  }
}

/** Loaded when needed: hardly any run salvages. */
async function salvage(storage: Storage, context: OpenContext): Promise<Salvaged> {
  const { salvageImage } = await import('./changing.js')
  return salvageImage(storage, context)
}

/** Damage that a check tells of, or that costs only a part of the disk, is no reason to refuse the image. */
function isTolerant({ repair, salvage }: Pick<OpenContext, 'repair' | 'salvage'>): boolean {
  return repair === true || salvage === true
}

function l1Outside({ l1TableOffset, l1Size }: Header, { size, label }: Storage): ImageError | undefined {
  if (l1TableOffset + l1Size * 8 <= size) return undefined
  const where = hex(l1TableOffset)
  return truncated(`L1 table at ${where} ends past the end of the file (${size} bytes)`, label, l1TableOffset)
}

/** Refuses to change what is damaged, or what changes would damage. */
function checkWritable(header: Header, source: string): void {
  if (header.incompatibleFeatures.has(Incompatible.corrupt)) {
    throw corrupt('the image is marked as corrupt and can only be read', source, 72)
  }
}

/**
 * Repairs the refcounts of an image that was not closed cleanly, as QEMU does before it writes to one.
 * @throws {ImageError} IMG_CORRUPT where more than refcounts is damaged, IMG_READ_ONLY.
 */
async function closedCleanly(parts: DriverParts, context: OpenContext): Promise<DriverParts> {
  const { image, size } = parts
  const { storage } = image
  if (!image.header.incompatibleFeatures.has(Incompatible.dirty)) return parts
  const { checkImage } = await import('./changing.js')
  const { result, header } = await checkImage(storage, image.header, {
    signal: context.signal,
    repair: 'all',
  })
  if (result.checkErrors > 0 || result.corruptions > 0) {
    const message = 'the image was not closed cleanly, and is damaged beyond its refcounts'
    throw corrupt(message, storage.label, 72)
  }
  context.warn(
    `${storage.label}: the image was not closed cleanly; its refcounts were repaired`,
    'WARN_REPAIRED',
  )
  image.header = header
  return { ...parts, snapshots: await readSnapshots(storage, header, size, context) }
}

/** Specification: Header, incompatible_features bit 2; External data file name string. */
async function openDataFile(
  storage: Storage,
  header: Header,
  context: OpenContext,
): Promise<{ readonly storage?: Storage; readonly error?: ImageError }> {
  const { label } = storage
  if (!header.incompatibleFeatures.has(Incompatible.dataFile)) {
    if (header.autoclearFeatures.has(Autoclear.rawDataFile)) {
      throw corrupt('data-file-raw requires a data file', label, 88)
    }
    return {}
  }
  const name = stringExtension(header.extensions, ExtensionType.dataFile)
  if (context.inspect) {
    const named =
      name === undefined ? 'an external data file' : `the external data file ${JSON.stringify(name)}`
    return {
      error: qcow2Error('IMG_REFERENCE_DENIED', `the data is in ${named}, which was not opened`, label),
    }
  }
  if (name === undefined || name === '') {
    throw qcow2Error('IMG_REFERENCE_MISSING', "'data-file' is required for this image", label)
  }
  return { storage: await context.openReference({ kind: 'data', name, format: 'raw' }) }
}

/** Unlocks an encrypted image. No passphrase is asked for where no data will be read. */
async function unlock(
  storage: Storage,
  data: Storage,
  header: Header,
  context: OpenContext,
): Promise<{ readonly encryption?: Encryption; readonly error?: ImageError }> {
  if (header.cryptMethod === CryptMethod.none) return {}
  if (context.inspect || context.repair) {
    const method = header.cryptMethod === CryptMethod.luks ? 'LUKS' : 'AES'
    const message = `the image is encrypted (${method}), and no passphrase was asked for`
    const hint = 'open it to be read, with its passphrase'
    return { error: qcow2Error('IMG_SECRET_MISSING', message, storage.label, 32, hint) }
  }
  const { openEncryption } = await import('./encryption.js')
  return { encryption: await openEncryption(storage, data, header, context) }
}

/**
 * True data runs are looked into for holes where the image is much larger than what the host has allocated for it: its
 * clusters were preallocated. QEMU decides by the same threshold.
 */
async function holesShown(storage: Storage, header: Header): Promise<'mark' | undefined> {
  const hostSize = await storage.hostSize?.()
  if (hostSize === undefined) return undefined
  const clusterSize = 2 ** header.clusterBits
  const allocated = Math.floor(hostSize / clusterSize)
  const threshold = Math.max(Math.floor((allocated * 10) / 9), allocated + 2)
  return Math.floor(storage.size / clusterSize) >= threshold ? 'mark' : undefined
}
