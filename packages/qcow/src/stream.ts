import {
  alignUp,
  type CreateContext,
  type CreateSpec,
  type ForwardSink,
  ImageError,
  type StreamSource,
  viewOf,
} from '@img/core'
import type { SectorCipher } from '@img/crypto'
import { badOption } from './create-options.js'
import { qcowError } from './errors.js'
import { CryptMethod, type Header, SECTOR, serialiseHeader } from './header.js'
import { layOut, tableRoom } from './layout.js'
import { newImage } from './new-image.js'
import { encodeEntry } from './tables.js'
import { l1Bytes } from './write-image.js'

/** Bytes given to the sink at a time. */
const PIECE = 1024 * 1024

/**
 * Writes an image in one forward pass: header, L1 table, then each L2 table with its clusters. The source tells beforehand which hold data.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED, IMG_UNSUPPORTED_SIZE, IMG_IO where the source changed meanwhile.
 */
export async function streamQcow(
  sink: ForwardSink,
  source: StreamSource,
  spec: CreateSpec,
  context: CreateContext,
): Promise<void> {
  const { header } = newImage({ ...spec, size: source.size })
  if (header.backing !== undefined) {
    throw badOption('an image that is written to a pipe cannot have a backing file', 'write it to a file')
  }
  if (spec.compress === true) {
    throw new ImageError('IMG_UNSUPPORTED', 'a compressed qcow image cannot be written to a pipe', {
      format: 'qcow',
      hint: 'write it to a file, or as qcow2',
    })
  }
  const cipher = header.cryptMethod === CryptMethod.none ? undefined : await newCipher(spec, context)
  const { l1, end } = await layOut(header, source.dataRanges(header.clusterSize))
  const out = new Output(sink)
  await out.write(serialiseHeader(header))
  await out.zerosTo(header.l1Offset)
  await out.write(l1Bytes(l1))
  await out.zerosTo(alignUp(header.l1Offset + header.l1Size * 8, header.clusterSize))
  const span = header.clusterSize * 2 ** header.l2Bits
  let group: { readonly offset: number; readonly length: number }[] = []
  let index = -1
  const writeGroup = async (): Promise<void> => {
    if (group.length === 0) return
    if (out.position !== l1[index])
      throw qcowError('IMG_IO', 'the source was changed while it was read', sink.label)
    await writeTable(out, header, group, out.position + tableRoom(header))
    for (const range of group) await writeData(out, header, source, range, context, cipher)
    group = []
  }
  for await (const { offset, length } of source.dataRanges(header.clusterSize)) {
    for (let at = offset; at < offset + length; ) {
      const next = Math.floor(at / span)
      if (next !== index) {
        await writeGroup()
        index = next
      }
      const stop = Math.min(offset + length, (index + 1) * span)
      group.push({ offset: at, length: stop - at })
      at = stop
    }
  }
  await writeGroup()
  if (out.position !== end) throw qcowError('IMG_IO', 'the source was changed while it was read', sink.label)
  await out.end()
}

async function newCipher(spec: CreateSpec, context: CreateContext): Promise<SectorCipher> {
  const { passphraseCipher, weakness } = await import('./encryption.js')
  context.warn(weakness, 'WARN_WEAK_ENCRYPTION')
  return passphraseCipher(spec.options, context.secret)
}

async function writeTable(
  out: Output,
  header: Header,
  group: readonly { readonly offset: number; readonly length: number }[],
  start: number,
): Promise<void> {
  const { clusterSize, clusterBits, l2Bits } = header
  const table = new Uint8Array(tableRoom(header))
  const view = viewOf(table)
  let host = start
  for (const { offset, length } of group) {
    for (let at = offset; at < offset + length; at += clusterSize) {
      encodeEntry(view, (at / clusterSize) % 2 ** l2Bits, { kind: 'data', host }, clusterBits)
      host += clusterSize
    }
  }
  await out.write(table)
}

async function writeData(
  out: Output,
  header: Header,
  source: StreamSource,
  range: { readonly offset: number; readonly length: number },
  context: CreateContext,
  cipher: SectorCipher | undefined,
): Promise<void> {
  const end = range.offset + alignUp(range.length, header.clusterSize)
  for (let at = range.offset; at < end; at += PIECE) {
    context.signal?.throwIfAborted()
    const bytes = new Uint8Array(Math.min(PIECE, end - at))
    const visible = Math.max(0, Math.min(bytes.length, source.size - at))
    if (visible > 0) await source.read(at, bytes.subarray(0, visible), context)
    cipher?.encrypt(bytes, at / SECTOR)
    await out.write(bytes)
  }
}

/** Gathers small pieces. The bytes of a piece are the output's once given. */
class Output {
  readonly #sink: ForwardSink
  #pieces: Uint8Array[] = []
  #gathered = 0
  position = 0

  constructor(sink: ForwardSink) {
    this.#sink = sink
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#pieces.push(bytes)
    this.#gathered += bytes.length
    this.position += bytes.length
    if (this.#gathered >= PIECE) await this.end()
  }

  zerosTo(position: number): Promise<void> {
    return this.write(new Uint8Array(position - this.position))
  }

  /** Gives everything to the sink. */
  async end(): Promise<void> {
    const whole = new Uint8Array(this.#gathered)
    let at = 0
    for (const piece of this.#pieces) {
      whole.set(piece, at)
      at += piece.length
    }
    this.#pieces = []
    this.#gathered = 0
    if (whole.length > 0) await this.#sink.write(whole)
  }
}
