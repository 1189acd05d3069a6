import { type Allocation, type ClusterMap, type ClusterRun, isPromise, type MaybePromise } from '@img/core'
import { check } from '../fault.js'
import { delegate } from './delegate.js'

/** Told of every lookup. */
export interface Watch {
  lookup?: (() => void) | undefined
}

/** The same map, with every answer checked against the contract: what is wrong could make core loop or misplace data. */
export function guardMap(map: ClusterMap, watch: Watch): ClusterMap {
  return delegate(map, {
    lookup: (lookup) => (offset, maxLength, options) => {
      watch.lookup?.()
      return after(lookup(offset, maxLength, options), (run) => {
        checkRun(run, offset, maxLength)
        return run
      })
    },
    allocate: (allocate) => (offset, length, options) =>
      after(allocate(offset, length, options), (room) => {
        checkRoom(room, offset, length)
        return room
      }),
  })
}

/** Goes on with a value, at once where it is there. */
export function after<T, U>(value: MaybePromise<T>, next: (value: T) => U): MaybePromise<U> {
  return isPromise(value) ? value.then(next) : next(value)
}

/** True for a byte offset. */
export function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function checkRun(run: ClusterRun, offset: number, maxLength: number): void {
  const asked = `lookup(${offset}, ${maxLength})`
  check(typeof run === 'object' && run !== null, `${asked} answered no run`)
  checkLength(run.length, maxLength, asked)
  switch (run.kind) {
    case 'data':
      checkPlace(run, asked)
      return
    case 'compressed':
      checkPlace(run, asked)
      check(run.hostLength > 0 && isOffset(run.hostLength), `${asked}: hostLength is ${run.hostLength}`)
      check(run.unitLength > 0 && isOffset(run.unitLength), `${asked}: unitLength is ${run.unitLength}`)
      check(
        isOffset(run.unitOffset) && run.unitOffset + run.length <= run.unitLength,
        `${asked}: bytes ${run.unitOffset} to ${run.unitOffset + run.length} of a unit of ${run.unitLength}`,
      )
      return
    case 'zero':
    case 'unallocated':
      check(
        (run.storage === undefined) === (run.hostOffset === undefined),
        `${asked}: a ${run.kind} run has a storage or a hostOffset, but not both`,
      )
      if (run.hostOffset !== undefined) checkPlace(run, asked)
      return
    default:
      check(false, `${asked} answered a run of kind ${JSON.stringify((run as ClusterRun).kind)}`)
  }
}

function checkLength(length: number, most: number, asked: string): void {
  check(Number.isSafeInteger(length), `${asked} answered ${length} bytes, which is no whole number`)
  check(length >= 1, `${asked} answered ${length} bytes: at least 1 is due`)
  check(length <= most, `${asked} answered ${length} bytes, more than were asked for`)
}

function checkPlace(
  place: { readonly storage?: unknown; readonly hostOffset?: number | undefined },
  asked: string,
): void {
  check(typeof place.storage === 'object' && place.storage !== null, `${asked} names no storage`)
  check(isOffset(place.hostOffset), `${asked}: hostOffset ${place.hostOffset} is no byte offset`)
}

function checkRoom(room: Allocation, offset: number, length: number): void {
  const asked = `allocate(${offset}, ${length})`
  check(typeof room === 'object' && room !== null, `${asked} answered no room`)
  checkLength(room.length, length, asked)
  checkPlace(room, asked)
  check(room.storage.write !== undefined, `${asked}: the storage cannot be written`)
  const { fill } = room
  if (fill === undefined) return
  check(isOffset(fill) && fill > 0, `${asked}: fill is ${fill}`)
  check(
    room.hostOffset >= offset % fill,
    `${asked}: host offset ${room.hostOffset} leaves no room for the start of its unit of ${fill} bytes`,
  )
}
