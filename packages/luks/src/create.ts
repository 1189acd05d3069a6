import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  type ForwardSink,
  ImageError,
  type ImageWriter,
  type IoOptions,
  isPromise,
  type MaybePromise,
  type Measurement,
  type MeasureSpec,
  type Placement,
  type StreamSource,
  type WritableStorage,
} from '@img/core'
import {
  encryptedStorage,
  type LuksOptions,
  luksChoice,
  luksHeaderBytes,
  luksLength,
  type NewLuks,
  newLuks,
  sectorBytes,
} from '@img/crypto'
import { writeZeros } from './fill.js'

/** Unit in which data is placed. Zeros are written like anything else, so that smaller units would save nothing. */
const unit = 65536
/** Largest payload whose end is an exact number. */
const maxSize: number = 2 ** 53 - 2 ** 32

async function make(spec: CreateSpec, context: CreateContext, source: string): Promise<NewLuks> {
  if (spec.compress === true) {
    throw new ImageError('IMG_UNSUPPORTED', 'Compression not supported for this file format', {
      format: 'luks',
    })
  }
  const choice = luksChoice(spec.options as LuksOptions, 'luks')
  const passphrase = await context.secret(spec.options['key-secret'] as string | undefined)
  return newLuks(choice, passphrase, { format: 'luks', source, offset: 0 })
}

function askedSize({ size, options }: CreateSpec): number | undefined {
  const option = options.size as number | undefined
  if (option !== undefined && size !== undefined && option !== size) {
    throw new ImageError('IMG_BAD_OPTION', 'The image size must be specified only once', { format: 'luks' })
  }
  return checkSize(size ?? option)
}

function checkSize<T extends number | undefined>(size: T): T {
  if (size === undefined || size <= maxSize) return size
  throw new ImageError('IMG_UNSUPPORTED_SIZE', `a disk of ${size} bytes is too large`, { format: 'luks' })
}

/**
 * Starts a new LUKS1 disk. The header comes last: before it, the file is none. What is not placed is written as zeros, because a
 * hole would decrypt to garbage.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_SECRET_MISSING, IMG_UNSUPPORTED, IMG_NO_SPACE, IMG_IO.
 */
export async function createLuks(
  target: WritableStorage,
  spec: CreateSpec,
  context: CreateContext,
): Promise<ImageWriter> {
  const size = askedSize(spec)
  const luks = await make(spec, context, target.label)
  // What stood in the target before must not be an image any more.
  const old = Math.min(target.size, luks.length)
  if (old > 0) await writeZeros(target, 0, old, context)
  return new LuksWriter(target, luks, size, context)
}

class LuksWriter implements ImageWriter {
  readonly clusterSize: number = unit
  readonly #target: WritableStorage
  readonly #payload: WritableStorage
  readonly #luks: NewLuks
  readonly #size: number | undefined
  readonly #context: CreateContext
  /** Guest bytes below are placed, or zeros. */
  #cursor = 0

  constructor(target: WritableStorage, luks: NewLuks, size: number | undefined, context: CreateContext) {
    this.#target = target
    this.#luks = luks
    this.#size = size
    this.#context = context
    this.#payload = encryptedStorage(target, luks.cipher, { base: luks.length }) as WritableStorage
  }

  place(offset: number, length: number): MaybePromise<Placement> {
    if (offset < this.#cursor || !(length > 0)) {
      throw new RangeError(`guest range of ${length} bytes at ${offset} is out of order`)
    }
    if (offset + length > (this.#size ?? Number.MAX_SAFE_INTEGER)) {
      throw new RangeError(`guest range of ${length} bytes at ${offset} ends past the disk`)
    }
    checkSize(offset + length)
    const placed = { storage: this.#payload, hostOffset: offset, length }
    const filled = this.#fillTo(offset)
    this.#cursor = offset + length
    const inLast = this.#cursor % sectorBytes
    // The rest of the last sector is part of the disk, and zero.
    const cut =
      inLast === 0 ? undefined : writeZeros(this.#payload, this.#cursor - inLast, sectorBytes, this.#context)
    if (!isPromise(filled) && cut === undefined) return placed
    return Promise.all([filled, cut]).then(() => placed)
  }

  async finish({
    size: told,
    signal,
  }: { readonly size?: number | undefined } & IoOptions = {}): Promise<void> {
    const given = this.#size ?? told
    if (given === undefined) throw new TypeError('the size of the new image is not known')
    const size = alignUp(checkSize(given), sectorBytes)
    await this.#fillTo(size)
    const { bytes, length } = this.#luks
    await this.#payload.truncate(size, { signal })
    await writeZeros(this.#target, bytes.length, length - bytes.length, { signal })
    await this.#target.write(luksHeaderBytes, bytes.subarray(luksHeaderBytes), { signal })
    await this.#target.write(0, bytes.subarray(0, luksHeaderBytes), { signal })
  }

  #fillTo(offset: number): MaybePromise<void> {
    const start = alignUp(this.#cursor, sectorBytes)
    if (offset <= start) return
    return writeZeros(this.#payload, start, offset - start, this.#context)
  }
}

const chunk = 512 * 1024

/** Writes the header, and then the encrypted disk in order. */
export async function streamLuks(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const luks = await make(spec, context, sink.label)
  const head = new Uint8Array(luks.length)
  head.set(luks.bytes)
  await sink.write(head)
  const size = alignUp(source.size, sectorBytes)
  const buffer = new Uint8Array(Math.min(chunk, size))
  for (let at = 0; at < size; at += chunk) {
    const bytes = buffer.subarray(0, size - at)
    const held = Math.min(bytes.length, source.size - at)
    await source.read(at, bytes.subarray(0, held), { signal: context.signal })
    bytes.fill(0, held)
    luks.cipher.encrypt(bytes, at / sectorBytes)
    await sink.write(bytes)
  }
}

/** A LUKS disk takes its whole size, whatever it holds. */
export async function measureLuks(spec: MeasureSpec): Promise<Measurement> {
  const length = luksLength(luksChoice(spec.options as LuksOptions, 'luks'))
  const bytes = length + alignUp(spec.size, sectorBytes)
  return { required: bytes, fullyAllocated: bytes }
}
