/** What a Content-Range header says: bytes [start, end) of `total`. */
export interface ContentRange {
  readonly start: number
  readonly end: number
  /** Undefined where the server does not tell. */
  readonly total: number | undefined
}

/** Parses the Content-Range of a 206 answer (RFC 9110, 14.4); undefined where it is none. */
export function parseContentRange(value: string): ContentRange | undefined {
  const [, first, last, total] = /^bytes\s+(\d+)-(\d+)\/(\d+|\*)$/i.exec(value.trim()) ?? []
  if (first === undefined || last === undefined || total === undefined) return undefined
  const range = {
    start: Number(first),
    end: Number(last) + 1,
    total: total === '*' ? undefined : Number(total),
  }
  return range.start < range.end && range.end <= (range.total ?? range.end) ? range : undefined
}

/** The size that the Content-Range of a 416 answer tells; undefined where it does not. */
export function parseUnsatisfiedRange(value: string | null): number | undefined {
  const [, total] = /^bytes\s+\*\/(\d+)$/i.exec(value?.trim() ?? '') ?? []
  return total === undefined ? undefined : Number(total)
}

/** The size in a Content-Length header; undefined without one. */
export function contentLength(headers: Headers): number | undefined {
  const value = headers.get('content-length')?.trim() ?? ''
  return /^\d+$/.test(value) ? Number(value) : undefined
}

/** Milliseconds that a Retry-After header asks to wait, given as seconds or as a date (RFC 9110, 10.2.3). */
export function retryAfter(headers: Headers, now: number): number | undefined {
  const value = headers.get('retry-after')?.trim() ?? ''
  if (/^\d+$/.test(value)) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

/** A Last-Modified this much older than the answer's Date tells versions apart for sure (RFC 9110, 8.8.2.2). */
const settled = 60_000

/** By what a server tells one version of a file from another. */
export class Validator {
  readonly #etag: string | null
  readonly #modified: string | null
  /** What to send as If-Range; undefined where the server gave nothing strong enough. */
  readonly ifRange: string | undefined

  constructor(headers: Headers) {
    this.#etag = headers.get('etag')
    this.#modified = headers.get('last-modified')
    this.ifRange = this.#strong(headers.get('date'))
  }

  /** How an answer shows that it is of another version; undefined where it does not. */
  difference(headers: Headers): string | undefined {
    const etag = headers.get('etag')
    if (etag !== null && this.#etag !== null) {
      if (opaque(etag) !== opaque(this.#etag)) return `its ETag was ${this.#etag} and is ${etag}`
      if (isStrong(etag) && isStrong(this.#etag)) return undefined
    }
    const modified = headers.get('last-modified')
    if (modified === null || this.#modified === null || modified === this.#modified) return undefined
    return `its Last-Modified was ${this.#modified} and is ${modified}`
  }

  #strong(date: string | null): string | undefined {
    if (this.#etag !== null) return isStrong(this.#etag) ? this.#etag : undefined
    if (this.#modified === null || date === null) return undefined
    return Date.parse(date) - Date.parse(this.#modified) >= settled ? this.#modified : undefined
  }
}

function isStrong(etag: string): boolean {
  return /^"[^"]*"$/.test(etag)
}

/** Without the mark of a weak one: a server in between may weaken it for some answers. */
function opaque(etag: string): string {
  return etag.replace(/^W\//, '')
}
