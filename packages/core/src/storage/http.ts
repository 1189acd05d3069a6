import type { IoOptions, Storage } from '../storage.js'
import { type BlockOptions, blockSizes, blockStorage } from './block-storage.js'
import { type Fetch, RangeClient } from './http-client.js'
import { parseTarget } from './http-target.js'
import { checkRetryOptions, type RetryOptions } from './retry.js'

/**
 * Options of {@link httpStorage}. `cacheBytes` is 16 MiB by default. `signal` cancels the opening; reads take their own.
 */
export interface HttpOptions extends BlockOptions, RetryOptions, IoOptions {
  /** Called instead of the global `fetch`: to sign requests, for a proxy, for other schemes. */
  readonly fetch?: Fetch | undefined
  /** Headers to send with each request. Secret ones go to the origin of the URL only, not where it redirects to. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Milliseconds without a byte after which a request has failed, and is tried again. Default 60 000. */
  readonly timeout?: number | undefined
}

/** Longest range asked for in one request, in bytes. */
const maxRequest = 4 * 1024 * 1024

/**
 * A file on a web server as a read-only storage: only what is read is fetched, by Range requests (RFC 9110, 14), in blocks
 * that are cached; reads that go forward are read ahead of. Opening fetches the first block.
 *
 * The file must not change meanwhile: ETag or Last-Modified, sent as If-Range and compared in every answer, and the size
 * notice it. A server that gives neither ETag nor Last-Modified is trusted as long as the size stays. Network failures,
 * 408, 429 and 5xx are tried again; other answers are not.
 *
 * User and password in the URL become an Authorization header. Neither they nor the query show in messages.
 *
 * For a page to read from another origin, that server must allow it (CORS): the header Range, and best expose
 * Content-Range and ETag.
 * @throws {ImageError} IMG_NETWORK (no connection, no support for ranges, changed while being read, other answers),
 * IMG_NOT_FOUND (404, 410), IMG_PERMISSION (401, 403), IMG_TRUNCATED, IMG_UNSUPPORTED_SIZE. Reads reject with the same.
 * @throws {TypeError} for a URL that is none, or whose scheme needs `fetch`.
 * @throws {RangeError} for numbers that cannot be.
 */
export async function httpStorage(url: string | URL, options: HttpOptions = {}): Promise<Storage> {
  const sizes = blockSizes(options, 16 * 1024 * 1024)
  const { timeout = 60_000, signal = new AbortController().signal } = options
  if (!(timeout > 0)) throw new RangeError(`timeout ${timeout} is not a number of milliseconds`)
  checkRetryOptions(options)
  const target = parseTarget(url, options.fetch !== undefined)
  const client = new RangeClient(target, { ...options, timeout })
  const { size, head } = await client.open(sizes.blockSize, signal)
  return blockStorage({
    ...sizes,
    label: target.label,
    identity: target.href,
    size,
    head,
    maxLoad: Math.max(maxRequest, sizes.blockSize),
    readAhead: maxRequest,
    load: (offset, length, loadSignal) => client.load(offset, length, loadSignal),
  })
}
