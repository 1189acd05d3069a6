import type { Driver, ImageError, OpenContext, Reference, Storage } from '@img/core'
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
}

/**
 * Opens an image. Its backing file is only named.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_READ_ONLY.
 */
export async function openQcow(storage: Storage, context: OpenContext): Promise<Driver> {
  const header = await readHeader(storage, context)
  const { label } = storage
  if (header.size !== header.storedSize) {
    context.warn(
      `${label}: the virtual size, ${header.storedSize} bytes, is no multiple of 512; as in QEMU, ` +
        `the last ${header.storedSize - header.size} bytes are not part of the disk`,
    )
  }
  const encryption = encryptionError(header, label)
  if (context.writable && encryption) throw encryption
  const backing: Reference | undefined =
    header.backing === undefined ? undefined : { kind: 'backing', name: header.backing }
  if (context.inspect || encryption) return describedOnly(header, backing, encryption, label)
  const tables = await readTables(storage, header, context)
  const parts: QcowParts = { storage, header, tables, backing }
  if (context.writable) {
    // Loaded when needed: most runs only read.
    const { openWritable } = await import('./write-driver.js')
    return openWritable(parts, context)
  }
  return {
    size: header.size,
    backing,
    map: new QcowMap(tables),
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

function describedOnly(
  header: Header,
  backing: Reference | undefined,
  unreadable: ImageError | undefined,
  source: string,
): Driver {
  return {
    size: header.size,
    backing,
    unreadable,
    map: {
      clusterSize: header.clusterSize,
      lookup() {
        throw unreadable ?? qcowError('IMG_UNSUPPORTED', 'it was opened only to be described', source)
      },
    },
    info: () => describeImage(header),
  }
}

function encryptionError(header: Header, source: string): ImageError | undefined {
  if (header.cryptMethod === CryptMethod.none) return undefined
  return qcowError(
    'IMG_UNSUPPORTED',
    'the image is encrypted (AES), and decryption is not supported yet',
    source,
    36,
    'decrypt it with qemu-img convert --image-opts',
  )
}
