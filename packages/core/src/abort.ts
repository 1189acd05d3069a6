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

/** The same items, given up where the signal aborts while one is waited for: rejects with the signal's reason. */
export async function* abortableItems<T>(
  items: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  const iterator = items[Symbol.asyncIterator]()
  let pending = false
  try {
    for (;;) {
      signal?.throwIfAborted()
      pending = true
      const next = await abortable(iterator.next(), signal)
      pending = false
      if (next.done === true) return
      yield next.value
    }
  } finally {
    // An iterator that still waits for its next item cannot be waited for: it ends when that comes.
    const returned = iterator.return?.()
    if (pending) returned?.catch(() => undefined)
    else await returned
  }
}
