import { readFileSync } from 'node:fs'

/** The bytes that QEMU's image locks use, see locks.ts. */
const first = 100
const last = 203

/**
 * True where somebody on this machine may hold an image lock, on whatever file: a cheap look that spares loading the
 * binding where nobody does. From /proc/locks (proc_locks(5)); true where that cannot be read.
 */
export function imageLocksExist(path = '/proc/locks'): boolean {
  let text: string
  try {
    text = readFileSync(path, 'latin1')
  } catch {
    return true
  }
  // "7: OFDLCK ADVISORY  READ -1 fe:00:1318 201 201"; waiting ones have "->" after the number.
  return text.split('\n').some((line) => {
    const [, start, end] = /OFDLCK.* (\d+) (\d+|EOF)$/.exec(line) ?? []
    return start !== undefined && Number(start) <= last && (end === 'EOF' || Number(end) >= first)
  })
}
