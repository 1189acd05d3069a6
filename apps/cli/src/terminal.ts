/** True where a descriptor is a terminal. `node:tty` is loaded only then: it costs 2 ms. */
export function isTerminal(fd: number): boolean {
  return process.getBuiltinModule('node:tty').isatty(fd)
}
