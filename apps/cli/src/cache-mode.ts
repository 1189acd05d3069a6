import { Failure } from './errors.js'

const modes = ['none', 'off', 'writeback', 'unsafe', 'writethrough', 'directsync']

/** Checks a cache mode of qemu-img. `what` names the option in the message. @throws {Failure} */
export function checkCacheMode(mode: unknown, what: string): void {
  if (mode !== undefined && !modes.includes(mode as string))
    throw new Failure(`Invalid ${what}: ${String(mode)}`)
}
