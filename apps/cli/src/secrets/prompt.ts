import { closeSync, openSync } from 'node:fs'
import { printErr } from '../output/write.js'
import { Interrupted } from '../signals.js'
import { isTerminal } from '../terminal.js'

/** True where somebody can be asked. */
export function canAsk(): boolean {
  const fd = openTerminal()
  if (fd === undefined) return false
  if (fd > 2) closeSync(fd)
  return true
}

/** The terminal: standard input where it is one, else the one that the process belongs to. */
function openTerminal(): number | undefined {
  if (!isTerminal(2)) return undefined
  if (isTerminal(0)) return 0
  try {
    return openSync('/dev/tty', 'r')
  } catch {
    return undefined
  }
}

/**
 * Asks for one line on the terminal, without showing it.
 * @throws {Interrupted} after Ctrl-C.
 */
export async function askPassphrase(question: string): Promise<Uint8Array> {
  const fd = openTerminal()
  if (fd === undefined) throw new Error('there is no terminal to ask on')
  const { ReadStream } = process.getBuiltinModule('node:tty')
  const input = new ReadStream(fd)
  input.setRawMode(true)
  printErr(question)
  const typed: number[] = []
  try {
    for await (const chunk of input as AsyncIterable<Uint8Array>) {
      for (const byte of chunk) {
        if (byte === 0x0d || byte === 0x0a) return Uint8Array.from(typed)
        if (byte === 0x03) throw new Interrupted('SIGINT')
        if (byte === 0x04 && typed.length === 0) return new Uint8Array()
        if (byte === 0x7f || byte === 0x08) removeCharacter(typed)
        else if (byte === 0x15) typed.length = 0
        else typed.push(byte)
      }
    }
    return Uint8Array.from(typed)
  } finally {
    input.setRawMode(false)
    input.destroy()
    printErr('\n')
  }
}

/** Takes the last character off: in UTF-8 it may be several bytes. */
function removeCharacter(bytes: number[]): void {
  while (bytes.length > 0 && ((bytes.pop() as number) & 0xc0) === 0x80);
}
