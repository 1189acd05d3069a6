import { createServer } from 'node:http'

/**
 * A package server that knows no package: a folder that takes its scope from here can get a package of that scope from a
 * tarball only.
 * @returns {Promise<{ url: string, asked: Set<string>, close: () => Promise<void> }>} `asked`: names asked for
 */
export function startEmptyScope() {
  /** @type {Set<string>} */
  const asked = new Set()
  const server = createServer((request, response) => {
    asked.add(decodeURIComponent((request.url ?? '').slice(1)))
    response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}')
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address ? address.port : 0
      const close = () =>
        new Promise((/** @type {(value: void) => void} */ closed) => {
          server.closeAllConnections()
          server.close(() => closed())
        })
      resolve({ url: `http://127.0.0.1:${port}/`, asked, close })
    })
  })
}
