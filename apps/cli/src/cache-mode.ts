import { Failure } from './errors.js'

const modes = ['none', 'off', 'writeback', 'unsafe', 'writethrough', 'directsync']

/** True for a cache mode of qemu-img. */
export function isCacheMode(mode: unknown): boolean {
  return modes.includes(mode as string)
}

/** Checks a cache mode of qemu-img. `what` names the option in the message. @throws {Failure} */
export function checkCacheMode(mode: unknown, what: string): void {
  if (mode !== undefined && !isCacheMode(mode)) throw new Failure(`Invalid ${what}: ${String(mode)}`)
}
