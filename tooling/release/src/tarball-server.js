import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { run } from './run.js'

/**
 * A package server that has these tarballs and nothing else, each as the latest version of its package: a folder that takes a
 * scope from here gets what would be published.
 * @param {readonly string[]} tarballs paths
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function serveTarballs(tarballs) {
  /** @type {Map<string, { manifest: any, bytes: Buffer }>} */
  const packages = new Map()
  for (const tarball of tarballs) {
    const { stdout } = await run('tar', ['xzOf', tarball, 'package/package.json'])
    const manifest = JSON.parse(stdout)
    packages.set(manifest.name, { manifest, bytes: readFileSync(tarball) })
  }
  let url = ''
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const path = decodeURIComponent(pathname).slice(1)
    const file = packages.get(path.replace(/\.tgz$/, ''))
    if (file && path.endsWith('.tgz')) {
      response.end(file.bytes)
      return
    }
    const found = packages.get(path)
    response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' })
    response.end(JSON.stringify(found ? packument(found, url) : { error: 'not found' }))
  })
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(undefined))
  })
  const address = server.address()
  url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}/`
  return {
    url,
    close: () =>
      new Promise((closed) => {
        server.closeAllConnections()
        server.close(() => closed())
      }),
  }
}

/**
 * What a registry tells of a package.
 * @param {{ manifest: any, bytes: Buffer }} file
 * @param {string} url
 */
function packument({ manifest, bytes }, url) {
  const { name, version } = manifest
  const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`
  const dist = { tarball: `${url}${name}.tgz`, integrity }
  return { name, 'dist-tags': { latest: version }, versions: { [version]: { ...manifest, dist } } }
}
