import {
  type AmendContext,
  alignDown,
  type Driver,
  ImageError,
  isWritable,
  type OpenContext,
  type ResizeOptions,
  type Storage,
  type WritableStorage,
} from '@img/core'
import {
  amendLuks,
  encryptedStorage,
  type LuksAmendOptions,
  type LuksHeader,
  luksCipher,
  luksInfo,
  readLuksHeader,
  sectorBytes,
  unlockLuks,
} from '@img/crypto'
import { writeZeros } from './fill.js'
import { LuksMap, refusingMap } from './luks-map.js'

/**
 * Opens a LUKS1 disk. Where it is only looked at, no passphrase is asked for.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_SECRET_MISSING,
 * IMG_WRONG_PASSPHRASE, IMG_READ_ONLY.
 */
export async function openLuks(storage: Storage, context: OpenContext): Promise<Driver> {
  const { label } = storage
  const place = { format: 'luks', source: label, offset: 0 }
  if (context.writable && !isWritable(storage)) {
    throw new ImageError('IMG_READ_ONLY', `${label} cannot be written`, { format: 'luks', source: label })
  }
  const header = await readLuksHeader(storage, place, storage.size, context)
  const held = storage.size - header.payloadOffset
  if (held < 0) {
    throw new ImageError('IMG_TRUNCATED', `${label} ends before its encrypted disk starts`, {
      format: 'luks',
      source: label,
      offset: header.payloadOffset,
      hint: 'the file is cut short: copy it again from its source',
    })
  }
  const size = alignDown(held, sectorBytes)
  if (size !== held) {
    context.warn(
      `${label}: the last ${held - size} bytes are less than a sector and not part of the disk`,
      'WARN_NOT_PART',
    )
  }
  if (context.inspect) {
    const reason = new ImageError(
      'IMG_SECRET_MISSING',
      'the disk is encrypted, and no passphrase was asked for',
      {
        format: 'luks',
        source: label,
      },
    )
    return { size, map: refusingMap(reason), unreadable: reason, info: () => describe(header) }
  }
  const passphrase = await context.secret(context.options['key-secret'] as string | undefined)
  const { key } = await unlockLuks(storage, header, passphrase, context)
  return new LuksDriver(storage, header, key, size, await payloadOf(storage, header, key), context.writable)
}

async function payloadOf(storage: Storage, header: LuksHeader, key: Uint8Array): Promise<Storage> {
  return encryptedStorage(storage, await luksCipher(header, key), { base: header.payloadOffset })
}

function describe(header: LuksHeader): ReturnType<Driver['info']> {
  return { encrypted: true, specific: luksInfo(header) }
}

class LuksDriver implements Driver {
  size: number
  readonly map: LuksMap
  readonly resize?: (size: number, options: ResizeOptions) => Promise<void>
  readonly amend?: (options: Readonly<Record<string, unknown>>, context: AmendContext) => Promise<void>
  #header: LuksHeader

  constructor(
    storage: Storage,
    header: LuksHeader,
    key: Uint8Array,
    size: number,
    payload: Storage,
    writable: boolean,
  ) {
    this.size = size
    this.map = new LuksMap(payload, writable)
    this.#header = header
    if (!writable || !isWritable(payload) || !isWritable(storage)) return
    this.resize = (wanted, options) => this.#resize(payload, wanted, options)
    this.amend = async (options, context) => {
      this.#header = await amendLuks(storage, this.#header, key, options as LuksAmendOptions, context)
    }
  }

  info(): ReturnType<Driver['info']> {
    return describe(this.#header)
  }

  /** New room is filled with encrypted zeros: a hole would decrypt to garbage. So all preallocation but `metadata` is the same. */
  async #resize(payload: WritableStorage, size: number, options: ResizeOptions): Promise<void> {
    const { preallocation = 'off', signal } = options
    if (preallocation === 'metadata') {
      throw new ImageError('IMG_UNSUPPORTED', "Unsupported preallocation mode 'metadata'", { format: 'luks' })
    }
    const wanted = Math.ceil(size / sectorBytes) * sectorBytes
    const before = this.size
    if (wanted < before && preallocation !== 'off') {
      throw new ImageError('IMG_BAD_OPTION', 'Preallocation can only be used for growing an image', {
        format: 'luks',
      })
    }
    try {
      if (wanted > before) await writeZeros(payload, before, wanted - before, { signal })
    } catch (error) {
      await payload.truncate(before)
      throw error
    }
    await payload.truncate(wanted, { signal })
    await payload.flush({ signal })
    this.size = wanted
  }
}
