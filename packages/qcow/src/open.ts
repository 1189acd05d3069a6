import {
  type Driver,
  ImageError,
  isWritable,
  type OpenContext,
  type Reference,
  type Storage,
} from '@img/core'
import type { Encryption } from './encryption.js'
import { qcowError } from './errors.js'
import { CryptMethod, type Header, readHeader } from './header.js'
import { QcowMap } from './mapping.js'
import { readTables, type Tables } from './tables.js'

/** What an opened image is made of. */
export interface QcowParts {
  readonly storage: Storage
  readonly header: Header
  readonly tables: Tables
  readonly backing: Reference | undefined
  /** Absent where the image is not encrypted. */
  readonly encryption: Encryption | undefined
  /** Set where it is and there is no key: its tables can be checked all the same. */
  readonly unreadable: ImageError | undefined
}

/**
 * Opens an image. Its backing file is only named.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED_SIZE,
 * IMG_READ_ONLY, IMG_SECRET_MISSING, IMG_BAD_OPTION.
 */
export async function openQcow(storage: Storage, context: OpenContext): Promise<Driver> {
  const header = await readHeader(storage, context)
  const { label } = storage
  if (header.size !== header.storedSize) {
    context.warn(
      `${label}: the virtual size, ${header.storedSize} bytes, is no multiple of 512; as in QEMU, ` +
        `the last ${header.storedSize - header.size} bytes are not part of the disk`,
      'WARN_NOT_PART',
    )
  }
  const backing: Reference | undefined =
    header.backing === undefined ? undefined : { kind: 'backing', name: header.backing }
  if (context.inspect && !context.writable) return describedOnly(header, backing, label)
  if (context.writable && !isWritable(storage))
    throw qcowError('IMG_READ_ONLY', 'it cannot be written', label)
  const { encryption, unreadable } = await openEncryption(storage, header, context)
  const tables = await readTables(storage, header, context)
  const parts: QcowParts = { storage, header, tables, backing, encryption, unreadable }
  if (context.writable) {
    // Loaded when needed: most runs only read.
    const { openWritable } = await import('./write-driver.js')
    return openWritable(parts)
  }
  return {
    size: header.size,
    backing,
    unreadable,
    map: new QcowMap(tables, encryption),
    info: () => describeImage(header),
    async check(options) {
      const { checkImage } = await import('./check.js')
      return checkImage(tables, undefined, options)
    },
  }
}

/** What an image tells of itself, as qemu-img does. */
export function describeImage(header: Header): ReturnType<Driver['info']> {
  const encrypted = header.cryptMethod !== CryptMethod.none
  return { clusterSize: header.clusterSize, encrypted, dirty: false }
}

function describedOnly(header: Header, backing: Reference | undefined, source: string): Driver {
  const lookup = (): never => {
    throw qcowError('IMG_UNSUPPORTED', 'it was opened only to be described', source)
  }
  return {
    size: header.size,
    backing,
    map: { clusterSize: header.clusterSize, lookup },
    info: () => describeImage(header),
  }
}

async function openEncryption(
  storage: Storage,
  header: Header,
  context: OpenContext,
): Promise<Pick<QcowParts, 'encryption' | 'unreadable'>> {
  if (header.cryptMethod === CryptMethod.none) return { encryption: undefined, unreadable: undefined }
  // Loaded when needed: ciphers are large, and most images have none.
  const { unlock, weakness } = await import('./encryption.js')
  try {
    const encryption = await unlock(storage, context.options, context.secret)
    if (context.writable) context.warn(`${storage.label}: ${weakness}`, 'WARN_WEAK_ENCRYPTION')
    return { encryption, unreadable: undefined }
  } catch (error) {
    if (context.repair !== true || !ImageError.is(error, 'IMG_SECRET_MISSING')) throw error
    return { encryption: undefined, unreadable: error }
  }
}
