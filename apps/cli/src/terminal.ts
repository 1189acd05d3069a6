import { fstatSync } from 'node:fs'

/** True where a descriptor is a terminal. `node:tty` is loaded only for what could be one: it costs 2 ms. */
export function isTerminal(fd: number): boolean {
  if (process.platform !== 'win32' && !isCharacterDevice(fd)) return false
  return process.getBuiltinModule('node:tty').isatty(fd)
}

function isCharacterDevice(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice()
  } catch {
    // Closed.
    return false
  }
}
