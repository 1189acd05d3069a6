import type { Extent } from '../block.js'
import { isPromise } from '../bytes.js'
import type { DataRun } from '../cluster.js'
import type { IoOptions } from '../storage.js'
import type { Layer } from './read.js'

interface ExtentWalk extends IoOptions {
  readonly holes?: boolean | undefined
}

/** Extents of guest range [offset, end), chain followed, not merged across calls of the drivers. */
async function* walk(
  layer: Layer,
  offset: number,
  end: number,
  depth: number,
  options: ExtentWalk,
): AsyncGenerator<Extent> {
  const { driver, backing } = layer
  for (let at = offset; at < end; ) {
    options.signal?.throwIfAborted()
    const found = driver.map.lookup(at, end - at, options)
    const run = isPromise(found) ? await found : found
    const next = at + run.length
    if (run.kind === 'unallocated' && layer.backingMissing) throw layer.backingMissing
    if (run.kind === 'unallocated' && backing !== undefined && at < backing.driver.size) {
      backing.assertReadable()
      const covered = Math.min(next, backing.driver.size)
      yield* walk(backing, at, covered, depth + 1, options)
      if (covered < next) yield { kind: 'unallocated', length: next - covered, offset: covered, depth }
    } else if (
      run.kind === 'data' &&
      run.storage.extents &&
      (options.holes === true || driver.holes !== undefined)
    ) {
      yield* splitHoles(run, at, depth, driver.holes === 'zero', options)
    } else {
      yield { ...run, offset: at, depth }
    }
    at = next
  }
}

async function* splitHoles(
  run: DataRun,
  offset: number,
  depth: number,
  asZero: boolean,
  options: IoOptions,
): AsyncGenerator<Extent> {
  const { storage, hostOffset, length } = run
  // Bytes past the end of the storage are the reader's error to raise, not ours to call a hole.
  const inside = Math.max(0, Math.min(length, storage.size - hostOffset))
  if (inside > 0 && storage.extents) {
    for await (const part of storage.extents(hostOffset, inside, options)) {
      const place = {
        length: part.length,
        storage,
        hostOffset: part.offset,
        offset: offset + part.offset - hostOffset,
        depth,
      }
      if (part.data) yield { kind: 'data', ...place }
      else yield asZero ? { kind: 'zero', ...place } : { kind: 'data', hole: true, ...place }
    }
  }
  if (inside < length)
    yield {
      kind: 'data',
      length: length - inside,
      storage,
      hostOffset: hostOffset + inside,
      offset: offset + inside,
      depth,
    }
}

/** True where `next` says the same as `last`, further on. */
function continues(last: Extent, next: Extent): boolean {
  if (last.depth !== next.depth) return false
  switch (last.kind) {
    case 'unallocated':
    case 'zero':
      return (
        next.kind === last.kind &&
        last.storage === next.storage &&
        last.hostOffset === sameHost(next.hostOffset, last.length)
      )
    case 'data':
      return (
        next.kind === 'data' &&
        last.storage === next.storage &&
        last.hostOffset + last.length === next.hostOffset &&
        last.hole === next.hole
      )
    case 'compressed':
      return false
  }
}

function sameHost(hostOffset: number | undefined, length: number): number | undefined {
  return hostOffset === undefined ? undefined : hostOffset - length
}

/** Extents of a range: ascending, gap-free, merged. */
export function layerExtents(
  layer: Layer,
  offset: number,
  end: number,
  options: ExtentWalk = {},
): AsyncGenerator<Extent> {
  return mergeExtents(walk(layer, offset, end, 0, options))
}

/** The same extents with neighbours that continue each other made one. */
export async function* mergeExtents(extents: AsyncIterable<Extent>): AsyncGenerator<Extent> {
  let last: Extent | undefined
  for await (const extent of extents) {
    if (last === undefined) last = extent
    else if (continues(last, extent)) last = { ...last, length: last.length + extent.length }
    else {
      yield last
      last = extent
    }
  }
  if (last !== undefined) yield last
}
