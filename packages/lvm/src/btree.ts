import { readU64LE, type Storage, viewOf } from '@img/core'
import { lvmError } from './errors.js'
import { BLOCK, blockKind, readBlock } from './metadata-block.js'
import { lastNotAbove } from './search.js'

const headerBytes = 32
const internal = 1
const leaf = 2

/** Levels of nodes at most: each has at least two entries for the next, and keys have 64 bits. */
const maxDepth = 16

/** A node, its keys and values as numbers. Values are at most 2^53 - 1, or the tree is corrupt. */
interface Node {
  readonly leaf: boolean
  readonly keys: Float64Array
  readonly values: DataView
  readonly valueBytes: number
}

/** Where a key was looked for: the leaf, and where in it. */
export interface Place {
  readonly leaf: LeafNode
  /** Index of the last key that is not above the one wanted; -1 where all are above. */
  readonly index: number
  /** The first key of what follows this leaf; Infinity at the end of the tree. */
  readonly bound: number
}

/** A leaf: keys ascending. */
export interface LeafNode {
  readonly keys: Float64Array
  /** Value of an entry as bytes. */
  readonly values: DataView
  readonly valueBytes: number
}

/**
 * A B-tree of device-mapper metadata, with values of a fixed size.
 * Source: Linux drivers/md/persistent-data/dm-btree-internal.h (node_header), dm-btree.c.
 */
export class BTree {
  readonly #storage: Storage
  readonly #root: number
  readonly #valueBytes: number
  readonly #nodes = new Map<number, Node>()

  constructor(storage: Storage, root: number, valueBytes = 8) {
    this.#storage = storage
    this.#root = root
    this.#valueBytes = valueBytes
  }

  /** Value of a key; undefined where it is not in the tree. */
  async get(key: number): Promise<number | undefined> {
    const { leaf: found, index } = await this.find(key)
    return index >= 0 && found.keys[index] === key ? valueAt(found, index) : undefined
  }

  /** @throws {ImageError} IMG_CORRUPT. */
  async find(key: number): Promise<Place> {
    let block = this.#root
    let bound = Number.POSITIVE_INFINITY
    for (let depth = 0; depth < maxDepth; depth++) {
      const node = await this.#node(block)
      const index = lastNotAbove(node.keys, key)
      if (node.leaf) return { leaf: node, index, bound }
      // What is below the first key is in no subtree.
      if (index < 0) return { leaf: empty, index: -1, bound: node.keys[0] ?? bound }
      bound = Math.min(bound, node.keys[index + 1] ?? Number.POSITIVE_INFINITY)
      block = valueAt(node, index)
    }
    throw lvmError(
      'IMG_CORRUPT',
      `${this.#storage.label}: the tree at block ${this.#root} is too deep, or goes round`,
    )
  }

  /** All entries, ascending. @throws {ImageError} IMG_CORRUPT. */
  async *entries(): AsyncGenerator<readonly [key: number, value: number]> {
    for (let key = 0; Number.isFinite(key); ) {
      const { leaf: found, index, bound } = await this.find(key)
      for (let at = Math.max(0, index); at < found.keys.length; at++) {
        const next = found.keys[at] as number
        if (next >= key) yield [next, valueAt(found, at)]
      }
      if (bound <= key) return
      key = bound
    }
  }

  async #node(block: number): Promise<Node> {
    const known = this.#nodes.get(block)
    if (known !== undefined) return known
    const node = this.#parse(block, await readBlock(this.#storage, block, blockKind.node))
    // Few are needed again and again; the rest comes in order.
    if (this.#nodes.size >= 256) this.#nodes.delete(this.#nodes.keys().next().value as number)
    this.#nodes.set(block, node)
    return node
  }

  #parse(block: number, bytes: Uint8Array): Node {
    const fail = (what: string): never => {
      throw lvmError('IMG_CORRUPT', `${this.#storage.label}: metadata block ${block}: ${what}`)
    }
    const view = viewOf(bytes)
    const flags = view.getUint32(4, true)
    const count = view.getUint32(16, true)
    const most = view.getUint32(20, true)
    const valueBytes = view.getUint32(24, true)
    if (readU64LE(view, 8) !== block) fail('it says that it is another')
    if (flags !== internal && flags !== leaf) fail('it is no node of a tree')
    if (valueBytes !== (flags === leaf ? this.#valueBytes : 8)) fail(`its values have ${valueBytes} bytes`)
    if (count > most || headerBytes + most * (8 + valueBytes) > BLOCK)
      fail(`${count} of ${most} entries do not fit`)
    const keys = new Float64Array(count)
    for (let at = 0; at < count; at++) {
      keys[at] = readU64LE(view, headerBytes + at * 8)
      if (at > 0 && (keys[at] as number) <= (keys[at - 1] as number)) fail('its keys are not ascending')
    }
    const values = viewOf(bytes.subarray(headerBytes + most * 8, headerBytes + most * 8 + count * valueBytes))
    return { leaf: flags === leaf, keys, values, valueBytes }
  }
}

const empty: LeafNode = { keys: new Float64Array(0), values: viewOf(new Uint8Array(0)), valueBytes: 8 }

/** The first eight bytes of a value, as a number. */
export function valueAt(node: LeafNode, index: number): number {
  return readU64LE(node.values, index * node.valueBytes)
}
