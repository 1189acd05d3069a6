import { isPromise, type MaybePromise } from '../bytes.js'
import type { ClusterRun } from '../cluster.js'
import type { ImageError } from '../errors.js'
import type { Driver } from '../format.js'
import type { IoOptions } from '../storage.js'
import type { UnitCache } from './units.js'

/** One image of a chain, as reading needs it. */
export interface Layer {
  readonly driver: Driver
  readonly formatName: string
  readonly units: UnitCache
  readonly backing?: Layer | undefined
  /** Why what this layer does not hold cannot be told: it has a backing file, which is not opened. */
  readonly backingMissing?: ImageError | undefined
  /** Throws where the layer is closed or cannot be read. */
  assertReadable(): void
}

/** Longest read done without giving up the thread. */
const syncLimit = 1024 * 1024

/**
 * Fills `into` with guest bytes from `offset`, chain followed, zeros where nothing is allocated. The range must lie
 * within the virtual size. Answers at once where everything needed is cached or local.
 */
export function readLayer(
  layer: Layer,
  offset: number,
  into: Uint8Array,
  options?: IoOptions,
): MaybePromise<void> {
  options?.signal?.throwIfAborted()
  let at = 0
  while (at < into.length) {
    const run = layer.driver.map.lookup(offset + at, into.length - at, options)
    const start = at
    if (isPromise(run)) {
      return run.then(async (found) => {
        await readRun(layer, found, offset + start, into.subarray(start, start + found.length), options)
        await readLayer(layer, offset + start + found.length, into.subarray(start + found.length), options)
      })
    }
    const next = at + run.length
    const pending = readRun(
      layer,
      run,
      offset + at,
      next === into.length && at === 0 ? into : into.subarray(at, next),
      options,
    )
    if (isPromise(pending))
      return pending.then(() => readLayer(layer, offset + next, into.subarray(next), options))
    at = next
  }
}

function readRun(
  layer: Layer,
  run: ClusterRun,
  offset: number,
  into: Uint8Array,
  options?: IoOptions,
): MaybePromise<void> {
  switch (run.kind) {
    case 'data':
      if (into.length <= syncLimit && run.storage.readSync?.(run.hostOffset, into)) return
      return run.storage.read(run.hostOffset, into, options)
    case 'zero':
      into.fill(0)
      return
    case 'compressed': {
      const unit = layer.units.get(run, layer.formatName, options)
      if (isPromise(unit))
        return unit.then((bytes) => into.set(bytes.subarray(run.unitOffset, run.unitOffset + into.length)))
      into.set(unit.subarray(run.unitOffset, run.unitOffset + into.length))
      return
    }
    case 'unallocated':
      return readBacking(layer, offset, into, options)
  }
}

function readBacking(
  { backing, backingMissing }: Layer,
  offset: number,
  into: Uint8Array,
  options?: IoOptions,
): MaybePromise<void> {
  if (backingMissing) throw backingMissing
  // A backing file may be smaller than its overlay: what it does not cover is zero.
  const covered = backing === undefined ? 0 : Math.max(0, Math.min(into.length, backing.driver.size - offset))
  into.fill(0, covered)
  if (backing === undefined || covered === 0) return
  backing.assertReadable()
  return readLayer(backing, offset, covered === into.length ? into : into.subarray(0, covered), options)
}
