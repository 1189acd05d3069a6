import { createServer } from 'node:http'

/**
 * A package server that knows no package: a folder that takes its scope from here can get a package of that scope from a
 * tarball only.
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export function startEmptyScope() {
  const server = createServer((_request, response) => {
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
      resolve({ url: `http://127.0.0.1:${port}/`, close })
    })
  })
}
