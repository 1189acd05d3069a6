import { readFileSync } from 'node:fs'
import { Failure } from './errors.js'

/** What Node puts where the bytes of an argument are not UTF-8. */
const replacement = '\ufffd'

/**
 * Refuses arguments that are not UTF-8: Node does not hand over their bytes, so a new file would get another name than the
 * one typed. Only on Linux can they be told from names that hold U+FFFD.
 * @throws {Failure}
 */
export function checkArgumentBytes(args: readonly string[]): void {
  const lossy = args.find((arg) => arg.includes(replacement))
  if (lossy === undefined || process.platform !== 'linux') return
  let bytes: Buffer
  try {
    bytes = readFileSync('/proc/self/cmdline')
  } catch {
    return
  }
  if (bytes.equals(Buffer.from(bytes.toString()))) return
  throw new Failure(`the argument '${lossy}' is not UTF-8`, {
    hint: 'reach the file by another name: a link to it, or after renaming it',
  })
}
