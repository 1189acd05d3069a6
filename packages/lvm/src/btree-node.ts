import { readU64LE, type Storage, viewOf, writeU64LE } from '@img/core'
import { blockChecksum } from './checksum.js'
import { lvmError } from './errors.js'
import { BLOCK, blockKind, readBlock } from './metadata-block.js'

/** Bytes of a node's header. Source: Linux drivers/md/persistent-data/dm-btree-internal.h, struct node_header. */
export const headerBytes = 32
/** Flags of a node. */
export const internalFlag = 1
export const leafFlag = 2

/** A node of a tree as a list. Values: 8 bytes with a block number in nodes that are no leaves. */
export interface NodeContent {
  readonly leaf: boolean
  readonly keys: number[]
  readonly values: Uint8Array[]
}

/** Entries that a node holds at most: a number that three divides. Source: dm-btree.c, calc_max_entries. */
export function mostEntries(valueBytes: number): number {
  return 3 * Math.floor((BLOCK - headerBytes) / (8 + valueBytes) / 3)
}

/** Reads a node. `valueBytes`: of a leaf's values. @throws {ImageError} IMG_CORRUPT. */
export async function readNode(storage: Storage, block: number, valueBytes: number): Promise<NodeContent> {
  return parseNode(storage.label, block, await readBlock(storage, block, blockKind.node), valueBytes)
}

function parseNode(label: string, block: number, bytes: Uint8Array, leafValueBytes: number): NodeContent {
  const fail = (what: string): never => {
    throw lvmError('IMG_CORRUPT', `${label}: metadata block ${block}: ${what}`)
  }
  const view = viewOf(bytes)
  const flags = view.getUint32(4, true)
  const count = view.getUint32(16, true)
  const most = view.getUint32(20, true)
  const valueBytes = view.getUint32(24, true)
  if (readU64LE(view, 8) !== block) fail('it says that it is another')
  if (flags !== internalFlag && flags !== leafFlag) fail('it is no node of a tree')
  if (valueBytes !== (flags === leafFlag ? leafValueBytes : 8)) fail(`its values have ${valueBytes} bytes`)
  if (count > most || headerBytes + most * (8 + valueBytes) > BLOCK)
    fail(`${count} of ${most} entries do not fit`)
  if (count === 0 && flags === internalFlag) fail('it has no entries')
  const keys: number[] = []
  const values: Uint8Array[] = []
  for (let at = 0; at < count; at++) {
    const key = readU64LE(view, headerBytes + at * 8)
    if (at > 0 && key <= (keys[at - 1] as number)) fail('its keys are not ascending')
    const start = headerBytes + most * 8 + at * valueBytes
    keys.push(key)
    values.push(bytes.subarray(start, start + valueBytes))
  }
  return { leaf: flags === leafFlag, keys, values }
}

/** A node as a block, with its checksum. */
export function encodeNode(
  block: number,
  { leaf, keys, values }: NodeContent,
  leafValueBytes: number,
): Uint8Array {
  const valueBytes = leaf ? leafValueBytes : 8
  const most = mostEntries(valueBytes)
  const bytes = new Uint8Array(BLOCK)
  const view = viewOf(bytes)
  view.setUint32(4, leaf ? leafFlag : internalFlag, true)
  view.setUint32(16, keys.length, true)
  view.setUint32(20, most, true)
  view.setUint32(24, valueBytes, true)
  keys.forEach((key, at) => {
    writeU64LE(view, headerBytes + at * 8, key)
    bytes.set(values[at] as Uint8Array, headerBytes + most * 8 + at * valueBytes)
  })
  return sealBlock(bytes, block, blockKind.node)
}

/** Puts the number of a block and its checksum into it. */
export function sealBlock(bytes: Uint8Array, block: number, kind: number): Uint8Array {
  const view = viewOf(bytes)
  writeU64LE(view, 8, block)
  view.setUint32(0, blockChecksum(bytes.subarray(4), kind), true)
  return bytes
}

/** A block number as a value. */
export function blockValue(block: number): Uint8Array {
  const bytes = new Uint8Array(8)
  writeU64LE(viewOf(bytes), 0, block)
  return bytes
}

/** The block number that a value is. */
export function valueBlock(value: Uint8Array): number {
  return readU64LE(viewOf(value), 0)
}
