import { readU64LE, type Storage, viewOf } from '@img/core'
import { lvmError } from './errors.js'
import { ExceptionList, type Exceptions } from './exceptions.js'
import { SECTOR } from './limits.js'
import { firstNotBelow } from './search.js'
import { readVolume, type Volume, volumeStorage } from './volume.js'

const magic = 0x70416e53
/** Bytes of an entry of a table. */
export const exceptionBytes = 16

/** Bytes of a chunk at most. lvm2 makes up to 512 KiB. */
const mostChunkBytes = 16 * 1024 * 1024

/**
 * A snapshot: what was copied to its store, and the origin for the rest.
 * Source: Linux drivers/md/dm-snap-persistent.c, Documentation/admin-guide/device-mapper/snapshot.rst.
 * @param name for messages
 */
export function snapshotVolume(name: string, origin: Volume, store: Volume, chunk: number): Volume {
  let loading: Promise<void> | undefined
  let exceptions: Exceptions | undefined
  const find = (offset: number, maxLength: number): ReturnType<Volume['lookup']> => {
    const { old, copies } = exceptions as Exceptions
    const inside = offset % chunk
    const number = (offset - inside) / chunk
    const at = firstNotBelow(old, number)
    if (old[at] === number) {
      return store.lookup((copies[at] as number) * chunk + inside, Math.min(maxLength, chunk - inside))
    }
    const next = old[at]
    const length = next === undefined ? maxLength : Math.min(maxLength, next * chunk - offset)
    return origin.lookup(offset, length)
  }
  return {
    size: origin.size,
    missing: origin.missing || store.missing,
    lookup(offset, maxLength) {
      if (exceptions !== undefined) return find(offset, maxLength)
      loading ??= readExceptions(name, store, chunk).then((read) => {
        exceptions = read
      })
      return loading.then(() => find(offset, maxLength))
    },
    write: () =>
      Promise.reject(
        lvmError('IMG_UNSUPPORTED', `${name} is a snapshot: what is built on it is not written`),
      ),
  }
}

async function readExceptions(name: string, volume: Volume, chunk: number): Promise<Exceptions> {
  return readTables(name, await openStore(name, volume, chunk), chunk)
}

/** The store of a snapshot, with its header checked. @throws {ImageError} IMG_CORRUPT, IMG_UNSUPPORTED. */
export async function openStore(name: string, volume: Volume, chunk: number): Promise<Storage> {
  const store = volumeStorage(volume, name)
  await checkHeader(name, store, chunk)
  return store
}

/** A snapshot whose store ran full: the kernel no longer copies anything to it. */
export async function isInvalid(volume: Volume): Promise<boolean> {
  const head = new Uint8Array(8)
  if (volume.size < head.length) return false
  await readVolume(volume, 0, head)
  const view = viewOf(head)
  return view.getUint32(0, true) === magic && view.getUint32(4, true) === 0
}

async function checkHeader(name: string, store: Storage, chunk: number): Promise<void> {
  const head = new Uint8Array(SECTOR)
  if (store.size >= SECTOR) await store.read(0, head)
  const view = viewOf(head)
  if (view.getUint32(0, true) !== magic) {
    throw lvmError('IMG_CORRUPT', `the store of snapshot ${name} has no header`)
  }
  if (view.getUint32(4, true) !== 1) {
    throw lvmError(
      'IMG_CORRUPT',
      `snapshot ${name} is invalid: its store ran full, and what it held is lost`,
      undefined,
      undefined,
      'its origin can still be read; remove the snapshot',
    )
  }
  if (view.getUint32(8, true) !== 1) {
    throw lvmError(
      'IMG_UNSUPPORTED',
      `the store of snapshot ${name} is of version ${view.getUint32(8, true)}`,
    )
  }
  if (chunk < SECTOR || !Number.isInteger(Math.log2(chunk))) {
    throw lvmError('IMG_CORRUPT', `snapshot ${name}: chunks of ${chunk} bytes are not possible`)
  }
  if (chunk > mostChunkBytes) {
    throw lvmError('IMG_UNSUPPORTED', `snapshot ${name} has chunks of ${chunk} bytes, more than are read`)
  }
  const recorded = view.getUint32(12, true) * SECTOR
  if (recorded !== chunk) {
    throw lvmError(
      'IMG_CORRUPT',
      `snapshot ${name} has chunks of ${recorded} bytes, the metadata says ${chunk}`,
    )
  }
}

/**
 * All entries, by old chunk. A chunk of the table is followed by as many chunks of data as it has entries. The first empty entry
 * ends it.
 */
export async function readTables(name: string, store: Storage, chunk: number): Promise<Exceptions> {
  const perTable = chunk / exceptionBytes
  const chunks = Math.floor(store.size / chunk)
  const list = new ExceptionList(name)
  const table = new Uint8Array(chunk)
  const view = viewOf(table)
  for (let at = 1; at < chunks; at += perTable + 1) {
    await store.read(at * chunk, table)
    for (let entry = 0; entry < perTable; entry++) {
      const old = readU64LE(view, entry * exceptionBytes)
      const copy = readU64LE(view, entry * exceptionBytes + 8)
      if (copy === 0) return list.sorted()
      if (copy >= chunks) {
        throw lvmError(
          'IMG_CORRUPT',
          `snapshot ${name}: chunk ${old} is said to be at ${copy}, past the end of its store`,
        )
      }
      list.add(old, copy)
    }
  }
  return list.sorted()
}
