import { ImageError } from '../errors.js'
import { corruptData, longData, shortData } from './define-codec.js'

/** Where one zstd frame ends, and what its header says. RFC 8878, section 3.1. */
export interface ZstdFrame {
  /** Offset behind the frame, in bytes. */
  readonly end: number
  /** True for a skippable frame (section 3.1.2), which holds no data. */
  readonly skippable: boolean
  /** Frame_Content_Size in bytes (possibly rounded above 2^53), if the header has it. Not to be believed. */
  readonly contentSize: number | undefined
}

const MAGIC = 0xfd2fb528
// Skippable frames have the magic numbers 0x184D2A50 to 0x184D2A5F.
const SKIPPABLE_MAGIC = 0x184d2a5
const MAX_BLOCK = 128 * 1024
const RLE_BLOCK = 1
const RESERVED_BLOCK = 3

function cut(): Error {
  return corruptData('zstd', 'it ends within a frame')
}

/**
 * Walks the frame that starts at `start`: header and block headers, without decoding. Decoders want to be given a
 * frame without what follows it.
 *
 * @throws ImageError `IMG_CORRUPT` if it is none, is cut off, or uses reserved values; `IMG_UNSUPPORTED` if it needs
 *   a dictionary
 */
export function readZstdFrame(bytes: Uint8Array, start: number): ZstdFrame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length - start < 8) throw cut()
  const magic = view.getUint32(start, true)
  if (magic >>> 4 === SKIPPABLE_MAGIC) {
    const end = start + 8 + view.getUint32(start + 4, true)
    if (end > bytes.length) throw cut()
    return { end, skippable: true, contentSize: undefined }
  }
  if (magic !== MAGIC) throw corruptData('zstd', 'there is no frame where one should start')

  const descriptor = bytes[start + 4]!
  if ((descriptor & 0x08) !== 0) throw corruptData('zstd', 'a reserved bit of the frame header is set')
  const singleSegment = (descriptor & 0x20) !== 0
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!
  const sizeFlag = descriptor >>> 6
  const sizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag
  let at = start + 5 + (singleSegment ? 0 : 1)
  if (at + dictionaryBytes + sizeBytes > bytes.length) throw cut()
  if (bytes.subarray(at, at + dictionaryBytes).some((byte) => byte !== 0))
    throw new ImageError('IMG_UNSUPPORTED', 'zstd data needs a dictionary, which disk images do not have')
  at += dictionaryBytes
  const contentSize = readContentSize(view, at, sizeBytes)
  at += sizeBytes

  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) throw cut()
    const header = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)
    last = (header & 1) !== 0
    const type = (header >>> 1) & 3
    const size = header >>> 3
    if (type === RESERVED_BLOCK) throw corruptData('zstd', 'a block has the reserved type')
    if (size > MAX_BLOCK) throw corruptData('zstd', `a block has ${size} bytes, more than ${MAX_BLOCK}`)
    at += 3 + (type === RLE_BLOCK ? 1 : size)
  }
  const hasChecksum = (descriptor & 0x04) !== 0
  const end = at + (hasChecksum ? 4 : 0)
  if (end > bytes.length) throw cut()
  return { end, skippable: false, contentSize }
}

function readContentSize(view: DataView, at: number, sizeBytes: number): number | undefined {
  switch (sizeBytes) {
    case 1:
      return view.getUint8(at)
    case 2:
      return view.getUint16(at, true) + 256
    case 4:
      return view.getUint32(at, true)
    case 8:
      return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32
    default:
      return undefined
  }
}

/**
 * Fills `target` from one or more frames; what follows is not looked at (it may be the next cluster's data).
 *
 * @param decodeFrame decodes exactly one frame into the start of `room`, returns the number of bytes, and throws
 *   `IMG_CORRUPT` rather than write more than fits
 * @throws ImageError `IMG_CORRUPT` if the frames do not give just `target.length` bytes
 */
export function decodeZstdFrames(
  input: Uint8Array,
  target: Uint8Array,
  decodeFrame: (frame: Uint8Array, room: Uint8Array) => number,
): void {
  let filled = 0
  for (let at = 0; filled < target.length; ) {
    if (at === input.length) throw shortData('zstd', filled, target.length)
    const frame = readZstdFrame(input, at)
    if (!frame.skippable) {
      const room = target.subarray(filled)
      if (frame.contentSize !== undefined && frame.contentSize > room.length)
        throw longData('zstd', target.length)
      filled += decodeFrame(input.subarray(at, frame.end), room)
    }
    at = frame.end
  }
}
