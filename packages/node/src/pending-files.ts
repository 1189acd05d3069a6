import { unlinkSync } from 'node:fs'

/** Temporary files that are to be removed should the process end before their job does. */
const pending = new Set<string>()

/** Has a temporary file removed when the process exits. */
export function addPending(path: string): void {
  if (pending.size === 0) process.on('exit', removePendingFiles)
  pending.add(path)
}

/** Says that a temporary file is gone, or has become the target. */
export function dropPending(path: string): void {
  pending.delete(path)
  if (pending.size === 0) process.off('exit', removePendingFiles)
}

/**
 * Removes all temporary files of targets that are not finished, at once. It runs by itself when the process exits
 * (`process.exit`, an uncaught error, the end of its work). A signal whose default action ends the process gives no such
 * notice: a program that wants its targets removed then has a handler for it that calls this, or that exits.
 */
export function removePendingFiles(): void {
  for (const path of [...pending]) {
    try {
      unlinkSync(path)
    } catch {
      // Gone already, or not to be removed: nothing better can be done while exiting.
    }
    dropPending(path)
  }
}
