import { ImageError, type ImageErrorCode, type ImageErrorDetails } from '../errors.js'
import { rootMessage } from './faults.js'
import { retryAfter } from './http-headers.js'
import type { HttpTarget } from './http-target.js'
import { PassingFailure } from './retry.js'

const serveRanges = 'download the file first, or serve it by a server that supports byte ranges'
const serveUnencoded = 'have the server send the file as it is, without compression on the way'

/** Failures that trying again does not mend: unknown host, bad certificate. Codes of Node. */
const lasting = /^(ENOTFOUND$|CERT_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_INVALID)/

/** Makes the errors of one URL. */
export class HttpFaults {
  readonly #target: HttpTarget

  constructor(target: HttpTarget) {
    this.#target = target
  }

  /** The error beneath a `fetch` or a body that failed. Passing, unless it is known to last. */
  connection(cause: unknown, offset: number): PassingFailure | ImageError {
    const { href, label } = this.#target
    // Another fetch may repeat the URL in its message, and with it what is secret in the query.
    const detail = rootMessage(cause)
      .replaceAll(href, label)
      .replaceAll(new URL(href).search || '\0', '?…')
    const error = this.#error('IMG_NETWORK', `the connection failed: ${detail}`, {
      offset,
      cause,
      hint: corsHint(),
    })
    return lasting.test(codeOf(cause)) ? error : new PassingFailure(error)
  }

  /** The server sent nothing for too long. */
  stalled(milliseconds: number, offset: number): PassingFailure {
    const seconds = Math.round(milliseconds / 100) / 10
    return new PassingFailure(
      this.#error('IMG_NETWORK', `the server sent nothing for ${seconds} s`, { offset }),
    )
  }

  /** A status that is neither 200 nor 206. */
  status({ status, headers }: Response, offset: number): PassingFailure | ImageError {
    const said = `the server answered with HTTP status ${status}`
    if (status === 408 || status === 429 || status >= 500) {
      return new PassingFailure(this.#error('IMG_NETWORK', said, { offset }), retryAfter(headers, Date.now()))
    }
    if (status === 404 || status === 410) {
      return this.#error('IMG_NOT_FOUND', said, { hint: 'there is no such file; check the URL' })
    }
    if (status === 401 || status === 403 || status === 407) {
      return this.#error('IMG_PERMISSION', said, {
        hint: 'put a name and a password into the URL (https://NAME:PASSWORD@…), or give the header that the server wants',
      })
    }
    return this.#error('IMG_NETWORK', said, { offset })
  }

  /** 200 where 206 was wanted. */
  noRanges(): ImageError {
    const what = 'the server ignores the Range header: it would send the whole file for every part'
    return this.#error('IMG_NETWORK', what, { hint: serveRanges })
  }

  noSize(): ImageError {
    return this.#error('IMG_NETWORK', 'the server does not tell the size of the file', { hint: serveRanges })
  }

  /** A size beyond what can be addressed. */
  badSize(size: number): ImageError {
    return this.#error('IMG_UNSUPPORTED_SIZE', `the server tells a size of ${size} bytes, beyond 2^53 - 1`)
  }

  changed(detail: string): ImageError {
    return this.#error('IMG_NETWORK', `the file was changed while being read: ${detail}`, {
      hint: 'open it again once it no longer changes',
    })
  }

  multipart(): ImageError {
    return this.#error('IMG_NETWORK', 'the server answered a single range with a multipart body', {
      hint: serveRanges,
    })
  }

  encoded(encoding: string): ImageError {
    const what = `the server sent the range with Content-Encoding ${JSON.stringify(encoding)} although identity was asked for`
    return this.#error('IMG_NETWORK', what, { hint: serveUnencoded })
  }

  /** A range other than the one asked for, or more of it. */
  wrongRange(asked: string, got: string, offset: number): ImageError {
    return this.#error('IMG_NETWORK', `the server was asked for ${asked} and sent ${got}`, {
      offset,
      hint: serveRanges,
    })
  }

  /** The body ended too early. */
  short(offset: number, got: number, wanted: number): PassingFailure {
    const what = `the server sent ${got} of ${wanted} bytes at offset ${offset}`
    return new PassingFailure(this.#error('IMG_TRUNCATED', what, { offset, hint: 'try again later' }))
  }

  #error(code: ImageErrorCode, what: string, details: ImageErrorDetails = {}): ImageError {
    const { label } = this.#target
    return new ImageError(code, `${label}: ${what}`, { source: label, ...details })
  }
}

function codeOf(error: unknown): string {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { code } = at as { code?: unknown }
    if (typeof code === 'string') return code
  }
  return ''
}

/** A browser does not tell a page why a request to another origin failed. */
function corsHint(): string | undefined {
  if ((globalThis as { document?: unknown }).document === undefined) return undefined
  return 'a server of another origin must allow it: Access-Control-Allow-Origin, and Access-Control-Allow-Headers: Range'
}
