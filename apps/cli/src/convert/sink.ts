import { type FileSink, forwardSink, openForwardSink } from '@img/node'
import { Failure } from '../errors.js'
import { statsOf } from '../paths.js'
import { isTerminal } from '../terminal.js'

/** True for a target that can only be written from front to back: standard output, a FIFO, a character device. */
export function isForwardOnly(target: string): boolean {
  if (target === '-') return true
  const stats = statsOf(target)
  return stats !== undefined && (stats.isFIFO() || stats.isCharacterDevice())
}

/** Opens such a target. @throws {Failure} for a terminal. */
export async function openSink(target: string, signal: AbortSignal): Promise<FileSink> {
  if (target !== '-') return openForwardSink(target, { signal })
  if (isTerminal(1)) {
    throw new Failure('an image is not written to a terminal', {
      hint: 'redirect standard output to a file or a pipe',
    })
  }
  return forwardSink(1, 'standard output')
}
