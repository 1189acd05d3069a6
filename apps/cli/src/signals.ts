import { constants } from 'node:os'

/** The command was told to stop. */
export class Interrupted extends Error {
  /** 128 and the signal's number, as a shell reports it. */
  readonly exit: number

  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`)
    this.exit = 128 + constants.signals[signal]
  }
}

const handled: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']

/**
 * A signal that aborts with {@link Interrupted} when the process is told to stop. Told a second time, the process exits at
 * once; temporary files are removed then too, by @img/node.
 */
export function abortOnSignals(): AbortSignal {
  const controller = new AbortController()
  for (const name of handled) {
    process.on(name, () => {
      const interrupted = new Interrupted(name)
      if (controller.signal.aborted) process.exit(interrupted.exit)
      controller.abort(interrupted)
    })
  }
  return controller.signal
}
