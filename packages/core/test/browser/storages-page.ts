import { blobStorage, httpStorage, ImageError, memoryStorage, type Storage } from '../../src/index.js'

/** What became of something that was tried: an error as plain data, or nothing. */
export interface Outcome {
  readonly code?: string
  readonly message?: string
  readonly hint?: string
}

const opened = new Map<string, Storage>()

function storage(name: string): Storage {
  const found = opened.get(name)
  if (!found) throw new Error(`${name} is not open`)
  return found
}

async function outcome(action: () => Promise<unknown>): Promise<Outcome> {
  try {
    await action()
    return {}
  } catch (error) {
    if (!ImageError.is(error)) return { code: (error as Error).name, message: (error as Error).message }
    return { code: error.code, message: error.message, ...(error.hint !== undefined && { hint: error.hint }) }
  }
}

/** What the test calls in the page. */
export const storagesPage = {
  async openUrl(
    name: string,
    url: string,
    options: { retries?: number } = {},
  ): Promise<Outcome & { size?: number }> {
    let size: number | undefined
    const result = await outcome(async () => {
      const http = await httpStorage(url, options)
      size = http.size
      opened.set(name, http)
    })
    return { ...result, ...(size !== undefined && { size }) }
  },

  /** Opens a Blob of bytes that repeat with that period. */
  openBlob(name: string, length: number, period: number): { size: number; label: string } {
    const bytes = new Uint8Array(length).map((_, i) => i % period)
    const blob = blobStorage(new Blob([bytes]))
    opened.set(name, blob)
    return { size: blob.size, label: blob.label }
  },

  /** Opens the file that was picked in the page. */
  openPicked(name: string): { size: number; label: string } {
    const file = document.querySelector('input')?.files?.[0]
    if (!file) throw new Error('nothing was picked')
    const picked = blobStorage(file)
    opened.set(name, picked)
    return { size: picked.size, label: picked.label }
  },

  /** Reads random ranges and counts those in which each byte is its offset modulo the period. */
  async countGood(name: string, reads: number, period: number): Promise<number> {
    const from = storage(name)
    let good = 0
    for (let i = 0; i < reads; i++) {
      const offset = Math.floor(Math.random() * from.size)
      const into = new Uint8Array(
        Math.floor(Math.random() * Math.min(i % 2 ? 5000 : 300_000, from.size - offset)),
      )
      await from.read(offset, into)
      if (into.every((byte, at) => byte === (offset + at) % period)) good++
    }
    return good
  },

  read: (name: string, offset: number, length: number): Promise<Outcome> =>
    outcome(() => storage(name).read(offset, new Uint8Array(length))),

  abort: (name: string, offset: number): Promise<Outcome> =>
    outcome(() => {
      const controller = new AbortController()
      setTimeout(() => controller.abort(new RangeError('enough')), 20)
      return storage(name).read(offset, new Uint8Array(1), { signal: controller.signal })
    }),

  /** A storage as `await using` would use it. */
  async dispose(): Promise<Outcome> {
    const memory = memoryStorage(new Uint8Array(10))
    await memory[Symbol.asyncDispose]()
    return outcome(() => memory.read(0, new Uint8Array(1)))
  },
}

Object.assign(globalThis, { storagesPage, ready: true })
