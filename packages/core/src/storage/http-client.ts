import { abortable } from '../abort.js'
import { HttpFaults } from './http-faults.js'
import {
  type ContentRange,
  contentLength,
  parseContentRange,
  parseUnsatisfiedRange,
  Validator,
} from './http-headers.js'
import { type HttpTarget, headersFor } from './http-target.js'
import { Limiter } from './limiter.js'
import { type RetryOptions, withRetries } from './retry.js'

/** What requests for ranges need of `fetch`. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** How a {@link RangeClient} asks. */
export interface ClientOptions extends RetryOptions {
  readonly fetch?: Fetch | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Milliseconds without a byte after which a request counts as failed. */
  readonly timeout: number
}

/** Requests under way at a time: what browsers allow for one host. */
const parallel = 6
/** Answers that one range may be spread over, as some servers send less than they are asked for. */
const mostParts = 64

/** More milliseconds than this a timer cannot wait: then there is no limit. */
const longestTimer = 2 ** 31 - 1

/** A range on its way. */
interface Transfer {
  readonly offset: number
  readonly into: Uint8Array
  filled: number
}

/** One request: its signal, and what to call whenever bytes came. */
interface Attempt {
  readonly signal: AbortSignal
  readonly alive: () => void
}

/** Asks a server for ranges of one file, and makes sure that it gets just those, all of the same version. */
export class RangeClient {
  readonly #target: HttpTarget
  readonly #options: ClientOptions
  readonly #headers: Headers
  readonly #fetch: Fetch
  readonly #faults: HttpFaults
  readonly #limiter: Limiter = new Limiter(parallel)
  /** Where redirects led: asked directly from then on, as another mirror might hold another version. */
  #href: string
  #size = 0
  #validator: Validator | undefined
  #ifRange: string | undefined
  /** Once the file has changed, nothing more is right. */
  #changed: Error | undefined

  /** @throws {TypeError} for headers that cannot be. */
  constructor(target: HttpTarget, options: ClientOptions) {
    this.#target = target
    this.#options = options
    this.#headers = new Headers(options.headers)
    this.#headers.delete('accept-encoding')
    this.#fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init))
    this.#faults = new HttpFaults(target)
    this.#href = target.href
  }

  /**
   * Asks for the first bytes, and learns by that the size and whether ranges are supported at all.
   * `head` holds the first `length` bytes, fewer where the file is shorter; undefined where the server sent less.
   */
  open(length: number, signal: AbortSignal): Promise<{ size: number; head: Uint8Array | undefined }> {
    return withRetries(this.#options, signal, () =>
      this.#attempt(signal, 0, async (attempt) => {
        this.#size = 0
        this.#validator = undefined
        this.#ifRange = undefined
        const response = await this.#send('GET', 0, length, attempt)
        if (isEmpty(response)) return { size: 0, head: undefined }
        if (response.status === 200) throw this.#faults.noRanges()
        if (response.status === 416) throw this.#faults.status(response, 0)
        const range = this.#checkPart(response, 0, length)
        const transfer = { offset: 0, into: new Uint8Array(length), filled: 0 }
        await this.#receive(response, transfer, range?.end, attempt)
        this.#remember(response)
        this.#size = range?.total ?? (await this.#askSize(attempt))
        if (!Number.isSafeInteger(this.#size)) throw this.#faults.badSize(this.#size)
        const whole = Math.min(length, this.#size)
        if (range === undefined && transfer.filled !== whole)
          throw this.#faults.short(0, transfer.filled, whole)
        return {
          size: this.#size,
          head: transfer.filled === whole ? transfer.into.slice(0, whole) : undefined,
        }
      }),
    )
  }

  /** Loads a range that lies within the file. */
  load(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    return this.#limiter.run(async () => {
      const transfer = { offset, into: new Uint8Array(length), filled: 0 }
      // A new try goes on where the last one ended.
      await withRetries(this.#options, signal, async () => {
        for (let parts = 0; transfer.filled < length; parts++) {
          if (parts === mostParts) throw this.#faults.short(offset, transfer.filled, length).error
          await this.#attempt(signal, offset + transfer.filled, (attempt) =>
            this.#loadPart(transfer, attempt),
          )
        }
      })
      return transfer.into
    }, signal)
  }

  async #loadPart(transfer: Transfer, attempt: Attempt): Promise<void> {
    if (this.#changed) throw this.#changed
    const start = transfer.offset + transfer.filled
    const end = transfer.offset + transfer.into.length
    const ifRange = this.#ifRange
    let answer = await this.#send('GET', start, end, attempt)
    if (answer.status === 200) {
      this.#checkWhole(answer, ifRange)
      answer.body?.cancel().catch(() => undefined)
      answer = await this.#send('GET', start, end, attempt)
      if (answer.status === 200) throw this.#faults.noRanges()
    }
    if (answer.status === 416) throw this.#unsatisfied(answer, start)
    await this.#receive(answer, transfer, this.#checkPart(answer, start, end)?.end, attempt)
  }

  /** A 200 answer to a range: the file changed, or the server does not take If-Range and is to be asked without. */
  #checkWhole({ headers }: Response, ifRange: string | undefined): void {
    const difference = this.#validator?.difference(headers) ?? this.#otherSize(contentLength(headers))
    if (difference !== undefined) throw this.#change(difference)
    if (ifRange === undefined) throw this.#faults.noRanges()
    if (headers.get('etag') === null && headers.get('last-modified') === null) {
      throw this.#change('the server no longer tells its version')
    }
    this.#ifRange = undefined
  }

  #unsatisfied(response: Response, start: number): Error {
    const size = parseUnsatisfiedRange(response.headers.get('content-range'))
    const difference = this.#otherSize(size)
    return difference === undefined ? this.#faults.status(response, start) : this.#change(difference)
  }

  #otherSize(size: number | undefined): string | undefined {
    return size === undefined || size === this.#size
      ? undefined
      : `it had ${this.#size} bytes and has ${size}`
  }

  #change(detail: string): Error {
    this.#changed = this.#faults.changed(detail)
    return this.#changed
  }

  /** Checks the header of a 206 answer. Undefined where a browser hides what range it is. */
  #checkPart(response: Response, start: number, end: number): ContentRange | undefined {
    const { headers } = response
    const difference = this.#validator?.difference(headers)
    if (difference !== undefined) throw this.#change(difference)
    if (/^multipart\//i.test(headers.get('content-type') ?? '')) throw this.#faults.multipart()
    this.#checkEncoding(headers)
    const asked = `bytes ${start}-${end - 1}`
    const value = headers.get('content-range')
    if (value === null) {
      // A page sees this header of another origin only where Access-Control-Expose-Headers names it.
      if (isHidden(response)) return undefined
      throw this.#faults.wrongRange(asked, 'a part without Content-Range', start)
    }
    const range = parseContentRange(value)
    if (range === undefined || range.start !== start || range.end > end) {
      throw this.#faults.wrongRange(asked, JSON.stringify(value), start)
    }
    const other = this.#validator && this.#otherSize(range.total)
    if (other !== undefined) throw this.#change(other)
    return range
  }

  #checkEncoding(headers: Headers): void {
    const encoding = headers.get('content-encoding')?.trim() ?? ''
    if (encoding !== '' && encoding.toLowerCase() !== 'identity') throw this.#faults.encoded(encoding)
  }

  #remember(response: Response): void {
    this.#validator = new Validator(response.headers)
    // To another origin, a browser asks for leave to send If-Range, which few servers give. Every answer is compared anyway.
    this.#ifRange = isHidden(response) ? undefined : this.#validator.ifRange
  }

  async #askSize(attempt: Attempt): Promise<number> {
    const response = await this.#send('HEAD', 0, 0, attempt)
    this.#checkEncoding(response.headers)
    const size = response.status === 200 ? contentLength(response.headers) : undefined
    if (size === undefined) throw this.#faults.noSize()
    const difference = this.#validator?.difference(response.headers)
    if (difference !== undefined) throw this.#change(difference)
    return size
  }

  /** Receives a body to the end, which must be at `end` where that is known, and at the end of the transfer at most. */
  async #receive(
    response: Response,
    transfer: Transfer,
    end: number | undefined,
    attempt: Attempt,
  ): Promise<void> {
    const start = transfer.offset + transfer.filled
    const limit = end ?? transfer.offset + transfer.into.length
    for await (const chunk of this.#chunks(response, transfer, attempt)) {
      if (transfer.offset + transfer.filled + chunk.length > limit) {
        throw this.#faults.wrongRange(`bytes ${start}-${limit - 1}`, 'more than that', start)
      }
      transfer.into.set(chunk, transfer.filled)
      transfer.filled += chunk.length
    }
    const got = transfer.offset + transfer.filled - start
    // While the size is not known, a short file looks the same; `open` checks it then.
    const mayEnd = end === undefined && this.#size === 0
    if (start + got < limit && !mayEnd) throw this.#faults.short(start, got, limit - start)
  }

  async *#chunks(
    response: Response,
    transfer: Transfer,
    { signal, alive }: Attempt,
  ): AsyncGenerator<Uint8Array> {
    const reader = response.body?.getReader()
    if (reader === undefined) return
    for (;;) {
      let result: ReadableStreamReadResult<Uint8Array>
      try {
        result = await abortable(reader.read(), signal)
      } catch (cause) {
        signal.throwIfAborted()
        throw this.#faults.connection(cause, transfer.offset + transfer.filled)
      }
      if (result.done) return
      alive()
      yield result.value
    }
  }

  /** Sends one request, again to the original URL where that to which it redirected has expired. */
  async #send(method: 'GET' | 'HEAD', start: number, end: number, attempt: Attempt): Promise<Response> {
    let response = await this.#request(this.#href, method, start, end, attempt)
    if (this.#href !== this.#target.href && [401, 403, 404, 410].includes(response.status)) {
      response.body?.cancel().catch(() => undefined)
      this.#href = this.#target.href
      response = await this.#request(this.#href, method, start, end, attempt)
    }
    const { status } = response
    if (status !== 200 && status !== 206 && status !== 416) throw this.#faults.status(response, start)
    if (status === 206 && response.redirected && response.url !== '') this.#href = response.url
    return response
  }

  async #request(
    href: string,
    method: string,
    start: number,
    end: number,
    { signal, alive }: Attempt,
  ): Promise<Response> {
    const headers = headersFor(href, this.#target, this.#headers)
    // The global fetch adds this to a range by itself (Fetch standard, 4.5); twice would look odd.
    if (method !== 'GET' || this.#options.fetch !== undefined) headers.set('accept-encoding', 'identity')
    if (method === 'GET') headers.set('range', `bytes=${start}-${end - 1}`)
    if (method === 'GET' && this.#ifRange !== undefined) headers.set('if-range', this.#ifRange)
    try {
      const response = await abortable(
        this.#fetch(href, { method, headers, signal, cache: 'no-store' }),
        signal,
      )
      alive()
      return response
    } catch (cause) {
      signal.throwIfAborted()
      throw this.#faults.connection(cause, start)
    }
  }

  /** Runs one request under a signal of its own, which ends it when it fails, or nothing comes for too long. */
  async #attempt<T>(signal: AbortSignal, offset: number, run: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { timeout } = this.#options
    const controller = new AbortController()
    const cancel = (): void => controller.abort(signal.reason)
    let timer: ReturnType<typeof setTimeout> | undefined
    const alive = (): void => {
      clearTimeout(timer)
      if (timeout > longestTimer) return
      timer = setTimeout(() => controller.abort(this.#faults.stalled(timeout, offset)), timeout)
    }
    signal.throwIfAborted()
    signal.addEventListener('abort', cancel, { once: true })
    alive()
    try {
      return await run({ signal: controller.signal, alive })
    } catch (error) {
      controller.abort(error)
      throw error
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', cancel)
    }
  }
}

/** An answer to a page from another origin, some of whose headers a browser may hide. */
function isHidden(response: Response): boolean {
  return response.type === 'cors'
}

/** An empty file has no range to give: 416, or 200 with nothing. */
function isEmpty({ status, headers }: Response): boolean {
  if (status === 416) return parseUnsatisfiedRange(headers.get('content-range')) === 0
  return status === 200 && contentLength(headers) === 0
}
