import { createReadStream, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** A web server of one directory, on 127.0.0.1. */
export interface WebServer {
  readonly url: string
  /** Bytes sent so far, without headers. */
  sent(): number
}

/** Starts one, with ranges and entity tags, until the file's tests have ended. */
export async function serveDirectory(directory: string): Promise<WebServer> {
  let sent = 0
  const server = createServer((request, response) => {
    const path = join(directory, decodeURIComponent(new URL(request.url ?? '', 'http://host').pathname))
    const stats = statSync(path, { throwIfNoEntry: false })
    if (stats === undefined || !stats.isFile()) {
      response.writeHead(404).end()
      return
    }
    const [, first = '0', last = ''] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    const start = Number(first)
    const end = last === '' ? stats.size : Math.min(stats.size, Number(last) + 1)
    sent += end - start
    response.writeHead(last === '' ? 200 : 206, {
      'accept-ranges': 'bytes',
      'content-length': end - start,
      etag: `"${stats.mtimeMs}"`,
      ...(last !== '' && { 'content-range': `bytes ${start}-${end - 1}/${stats.size}` }),
    })
    if (end > start && request.method !== 'HEAD')
      createReadStream(path, { start, end: end - 1 }).pipe(response)
    else response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent: () => sent }
}
