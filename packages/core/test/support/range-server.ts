import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A request as the server saw it. */
export interface SeenRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
}

/** What a misbehaving server may do with a request. */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Number of the request, from 0. */
  readonly count: number
  /** The range asked for, [start, end); undefined without one. */
  readonly range: { readonly start: number; readonly end: number } | undefined
  /** Answers as a good server does, these headers put over its own (null: left out). */
  serve(headers?: Record<string, string | null>): void
}

/** A web server on 127.0.0.1 that serves one file under any path, well unless told otherwise. */
export interface RangeServer {
  readonly url: string
  readonly requests: SeenRequest[]
  /** The file; may be replaced. */
  content: Uint8Array
  /** Sent with every answer; null: left out. */
  etag: string | null
  lastModified: string | null
  /** Called instead of serving. */
  behave: ((exchange: Exchange) => void) | undefined
  close(): Promise<void>
}

/** Starts a server. Its port is the system's choice. */
export async function startRangeServer(content: Uint8Array): Promise<RangeServer> {
  const server = createServer((request, response) => {
    const count = state.requests.length
    state.requests.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers })
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    const range = first === undefined ? undefined : { start: Number(first), end: Number(last) + 1 }
    const serve = (headers: Record<string, string | null> = {}): void =>
      serveRange(state, request, response, range, headers)
    if (state.behave) state.behave({ request, response, count, range, serve })
    else serve()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const state: RangeServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    content,
    etag: '"one"',
    lastModified: 'Sat, 01 Jan 2022 00:00:00 GMT',
    behave: undefined,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return state
}

function serveRange(
  { content, etag, lastModified }: RangeServer,
  request: IncomingMessage,
  response: ServerResponse,
  range: Exchange['range'],
  extra: Record<string, string | null>,
): void {
  const condition = request.headers['if-range']
  const current = condition === undefined || condition === etag || condition === lastModified
  const wanted = current ? range : undefined
  const headers: OutgoingHttpHeaders = {
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
  }
  if (etag !== null) headers.etag = etag
  if (lastModified !== null) headers['last-modified'] = lastModified
  let status = 200
  let body = content
  if (wanted && wanted.start >= content.length) {
    status = 416
    body = new Uint8Array(0)
    headers['content-range'] = `bytes */${content.length}`
  } else if (wanted) {
    status = 206
    body = content.subarray(wanted.start, wanted.end)
    headers['content-range'] = `bytes ${wanted.start}-${wanted.start + body.length - 1}/${content.length}`
  }
  headers['content-length'] = String(body.length)
  for (const [name, value] of Object.entries(extra)) {
    if (value === null) delete headers[name]
    else headers[name] = value
  }
  response.writeHead(status, headers)
  response.end(request.method === 'HEAD' ? undefined : body)
}
