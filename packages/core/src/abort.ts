/**
 * The promise, given up where the signal aborts first: rejects with the signal's reason. What the promise does
 * afterwards is ignored, so nothing may be left to be done with its result.
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  return new Promise<T>((resolve, reject) => {
    const give = (): void => reject(signal.reason)
    const settle = (): void => signal.removeEventListener('abort', give)
    promise.then(
      (value) => {
        settle()
        resolve(value)
      },
      (error: unknown) => {
        settle()
        reject(error)
      },
    )
    if (signal.aborted) give()
    else signal.addEventListener('abort', give, { once: true })
  })
}

/** Waits that many milliseconds. Rejects with the signal's reason where it aborts first. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const passed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds)
  })
  return abortable(passed, signal).finally(() => clearTimeout(timer))
}
