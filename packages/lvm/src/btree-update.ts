import type { Storage } from '@img/core'
import { blockValue, encodeNode, mostEntries, type NodeContent, readNode, valueBlock } from './btree-node.js'
import { lvmError } from './errors.js'

/** Where the nodes of a changed tree go: never over a node that is in use. */
export interface BlockRoom {
  /** Takes a free block. @throws {ImageError} IMG_NO_SPACE. */
  take(): number
  /** One reference less to a block. True where others refer to it still. */
  release(block: number): boolean
  /** One reference more. */
  share(block: number): void
  put(block: number, bytes: Uint8Array): void
}

/** Changes of a tree: the new value of a key, or undefined where it is to go. */
export type TreeChanges = ReadonlyMap<number, Uint8Array | undefined>

/** A tree to be changed. */
export interface TreeSpec {
  readonly storage: Storage
  readonly root: number
  readonly valueBytes: number
  readonly room: BlockRoom
  /** Called for the values of a leaf that is copied while others still refer to the old one. */
  readonly shareValue?: ((value: Uint8Array) => void) | undefined
}

const maxDepth = 16

/** A child of a node: one that stays as it is, or one to be written. */
type Child =
  | { readonly key: number; readonly block: number }
  | { readonly key: number; readonly node: NodeContent }

/**
 * Makes a tree with changes: nodes that change are written anew, and the old ones stay as they are for the old tree. Nodes but
 * the root stay at least a third full, as the kernel keeps them.
 * Source: Linux drivers/md/persistent-data/dm-btree.c, dm-btree-remove.c.
 * @returns the block of the new root; the old one where there is nothing to change
 */
export async function updateTree(spec: TreeSpec, changes: TreeChanges): Promise<number> {
  if (changes.size === 0) return spec.root
  const sorted = [...changes].sort(([a], [b]) => a - b)
  let nodes = await changed(spec, spec.root, sorted, 0)
  if (nodes.length === 0) nodes = [{ leaf: true, keys: [], values: [] }]
  while (nodes.length > 1) nodes = packed(false, entriesOf(spec, nodes.map(childOf)))
  const top = nodes[0] as NodeContent
  // A root with one child is not needed.
  if (!top.leaf && top.keys.length === 1) return valueBlock(top.values[0] as Uint8Array)
  return write(spec, top)
}

type Changes = readonly (readonly [key: number, value: Uint8Array | undefined])[]

/** The nodes that take the place of one. */
async function changed(
  spec: TreeSpec,
  block: number,
  changes: Changes,
  depth: number,
): Promise<NodeContent[]> {
  const node = await opened(spec, block, depth)
  if (node.leaf) return packed(true, merged(node, changes))
  let at = 0
  let children: Child[] = []
  for (let index = 0; index < node.keys.length; index++) {
    const next = node.keys[index + 1] ?? Number.POSITIVE_INFINITY
    const start = at
    while (at < changes.length && (changes[at] as Changes[number])[0] < next) at++
    const child = valueBlock(node.values[index] as Uint8Array)
    if (at === start) children.push({ key: node.keys[index] as number, block: child })
    else children.push(...(await changed(spec, child, changes.slice(start, at), depth + 1)).map(childOf))
  }
  children = await evened(spec, children, depth + 1)
  return packed(false, entriesOf(spec, children))
}

/** Reads a node that is to be replaced. */
async function opened(
  { storage, valueBytes, room, shareValue }: TreeSpec,
  block: number,
  depth: number,
): Promise<NodeContent> {
  if (depth >= maxDepth) {
    throw lvmError('IMG_CORRUPT', `${storage.label}: the tree over block ${block} is too deep, or goes round`)
  }
  const node = await readNode(storage, block, valueBytes)
  if (room.release(block)) {
    for (const value of node.values) {
      if (node.leaf) shareValue?.(value)
      else room.share(valueBlock(value))
    }
  }
  return node
}

function merged(node: NodeContent, changes: Changes): Changes {
  const all = new Map<number, Uint8Array | undefined>(
    node.keys.map((key, at) => [key, node.values[at] as Uint8Array]),
  )
  for (const [key, value] of changes) all.set(key, value)
  return [...all].filter(([, value]) => value !== undefined).sort(([a], [b]) => a - b)
}

/** Nodes with these entries, about as many in each. */
function packed(leaf: boolean, entries: Changes): NodeContent[] {
  const valueBytes = entries[0]?.[1]?.length ?? 8
  const count = Math.ceil(entries.length / mostEntries(valueBytes))
  return Array.from({ length: count }, (_, part) => {
    const from = Math.floor((entries.length * part) / count)
    const own = entries.slice(from, Math.floor((entries.length * (part + 1)) / count))
    return { leaf, keys: own.map(([key]) => key), values: own.map(([, value]) => value as Uint8Array) }
  })
}

function childOf(node: NodeContent): Child {
  return { key: node.keys[0] as number, node }
}

/** Joins children that have too few entries with their neighbours. */
async function evened(spec: TreeSpec, children: readonly Child[], depth: number): Promise<Child[]> {
  const even = [...children]
  for (let at = 0; at < even.length && even.length > 1; at++) {
    const child = even[at] as Child
    if (!('node' in child) || !isLow(child.node)) continue
    const first = at + 1 < even.length ? at : at - 1
    const pair: NodeContent[] = []
    for (const each of even.slice(first, first + 2)) {
      pair.push('node' in each ? each.node : await opened(spec, each.block, depth))
    }
    const entries = pair.flatMap(({ keys, values }) =>
      keys.map((key, index) => [key, values[index] as Uint8Array] as const),
    )
    const joined = packed(child.node.leaf, entries).map(childOf)
    even.splice(first, 2, ...joined)
    at = Math.max(-1, first - 1)
  }
  return even
}

function isLow({ keys, values }: NodeContent): boolean {
  return keys.length < Math.floor(mostEntries(values[0]?.length ?? 8) / 3)
}

/** Writes the children that are new; entries for the node above. */
function entriesOf(spec: TreeSpec, children: readonly Child[]): Changes {
  return children.map((child) => [
    child.key,
    blockValue('node' in child ? write(spec, child.node) : child.block),
  ])
}

function write({ room, valueBytes }: TreeSpec, node: NodeContent): number {
  const block = room.take()
  room.put(block, encodeNode(block, node, valueBytes))
  return block
}
