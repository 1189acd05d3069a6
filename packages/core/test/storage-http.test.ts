import { afterEach, describe, expect, it } from 'vitest'
import { type HttpOptions, httpStorage } from '../src/storage/http.js'
import { expectCode, readAll, same, sampleBytes, storageContract } from './storage-contract.js'
import { type RangeServer, startRangeServer } from './support/range-server.js'

const servers: RangeServer[] = []

async function serve(size: number): Promise<RangeServer> {
  const server = await startRangeServer(sampleBytes(size))
  servers.push(server)
  return server
}

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

const open = (server: RangeServer, options: HttpOptions = {}) =>
  httpStorage(`${server.url}/disk.qcow2`, { retryDelay: 1, ...options })

for (const [name, options] of [
  ['httpStorage', {}],
  ['httpStorage with tiny blocks and hardly a cache', { blockSize: 512, cacheBytes: 2048 }],
] as const) {
  const started: RangeServer[] = []
  storageContract(name, {
    async open(bytes) {
      const server = await startRangeServer(bytes)
      started.push(server)
      return httpStorage(server.url, options)
    },
    async cleanup() {
      await Promise.all(started.map((server) => server.close()))
    },
    runs: 20,
  })
}

describe('httpStorage', () => {
  it('opens with one request, which brings the first block along', async () => {
    const server = await serve(300_000)
    const storage = await open(server)
    expect(storage.size).toBe(300_000)
    expect(storage.readSync?.(0, new Uint8Array(65536))).toBe(true)
    expect(server.requests).toMatchObject([
      { method: 'GET', headers: { range: 'bytes=0-65535', 'accept-encoding': 'identity' } },
    ])
  })

  it('opens an empty file', async () => {
    const server = await serve(0)
    expect((await open(server)).size).toBe(0)
    server.behave = ({ response }) => response.writeHead(200, { 'content-length': '0' }).end()
    expect((await open(server)).size).toBe(0)
  })

  it('fetches blocks that adjoin in one request', async () => {
    const server = await serve(1_000_000)
    const storage = await open(server)
    const into = new Uint8Array(500_000)
    await storage.read(200_000, into)
    expect(same(into, server.content.subarray(200_000, 700_000))).toBe(true)
    expect(server.requests.slice(1).map(({ headers }) => headers.range)).toEqual(['bytes=196608-720895'])
  })

  it('lets concurrent reads of one block share a request', async () => {
    const server = await serve(1_000_000)
    const storage = await open(server)
    await Promise.all(
      Array.from({ length: 30 }, (_, i) => storage.read(140_000 + i * 10, new Uint8Array(10))),
    )
    expect(server.requests.length).toBe(2)
  })

  it('reads ahead of reads that go forward', async () => {
    const server = await serve(4_000_000)
    const storage = await open(server, { blockSize: 4096, cacheBytes: 4 * 1024 * 1024 })
    const all = new Uint8Array(server.content.length)
    for (let at = 0; at < all.length; at += 4096) await storage.read(at, all.subarray(at, at + 4096))
    expect(same(all, server.content)).toBe(true)
    // 977 blocks; the window doubles from one block on, and a new one is asked for when half of it is used up.
    expect(server.requests.length).toBeLessThan(30)
  })

  it('fetches each byte once when a long read goes over all', async () => {
    const server = await serve(10_000_000)
    const storage = await open(server)
    expect(same(await readAll(storage), server.content)).toBe(true)
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([
      'bytes=0-65535',
      'bytes=65536-4259839',
      'bytes=4259840-8454143',
      'bytes=8454144-9999999',
    ])
  })

  it('sends the headers that it is given, by the fetch that it is given', async () => {
    const server = await serve(1000)
    const urls: string[] = []
    const storage = await open(server, {
      headers: { 'X-Key': 'k', Range: 'bytes=5-6', 'Accept-Encoding': 'gzip' },
      fetch: (url, init) => {
        urls.push(url)
        return fetch(url, init)
      },
    })
    expect(storage.size).toBe(1000)
    expect(urls).toEqual([`${server.url}/disk.qcow2`])
    expect(server.requests[0]?.headers).toMatchObject({
      'x-key': 'k',
      range: 'bytes=0-65535',
      'accept-encoding': expect.stringMatching(/^identity(, identity)?$/),
    })
  })

  it('takes a server that sends less of a range than asked for', async () => {
    const server = await serve(200_000)
    server.behave = ({ response, range }) => {
      const start = range?.start ?? 0
      const end = Math.min(range?.end ?? 0, start + 30_000, 200_000)
      response.writeHead(206, { 'content-range': `bytes ${start}-${end - 1}/200000` })
      response.end(server.content.subarray(start, end))
    }
    const storage = await open(server)
    expect(same(await readAll(storage), server.content)).toBe(true)
  })

  it('asks for the size where Content-Range leaves it out', async () => {
    const server = await serve(200_000)
    server.behave = ({ range, serve }) =>
      serve(range && { 'content-range': `bytes ${range.start}-${Math.min(range.end, 200_000) - 1}/*` })
    const storage = await open(server)
    expect(storage.size).toBe(200_000)
    expect(server.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD'])
    expect(same(await readAll(storage), server.content)).toBe(true)
    server.behave = ({ request, response, range, serve }) => {
      if (request.method === 'HEAD') response.writeHead(200, { 'transfer-encoding': 'chunked' }).end()
      else serve(range && { 'content-range': `bytes ${range.start}-65535/*` })
    }
    await expectCode(() => open(server), 'IMG_NETWORK')
  })

  it('refuses arguments that cannot be', async () => {
    await expect(httpStorage('no url')).rejects.toThrow(TypeError)
    await expect(httpStorage('file:///disk')).rejects.toThrow(TypeError)
    await expect(httpStorage('http://localhost/', { retries: -1 })).rejects.toThrow(RangeError)
    await expect(httpStorage('http://localhost/', { retryDelay: -1 })).rejects.toThrow(RangeError)
    await expect(httpStorage('http://localhost/', { timeout: 0 })).rejects.toThrow(RangeError)
    await expect(httpStorage('http://localhost/', { blockSize: 1 })).rejects.toThrow(RangeError)
  })
})

describe('httpStorage and versions', () => {
  it('sends a strong ETag as If-Range', async () => {
    const server = await serve(200_000)
    await (await open(server)).read(100_000, new Uint8Array(1))
    expect(server.requests.map(({ headers }) => headers['if-range'])).toEqual([undefined, '"one"'])
  })

  it('sends Last-Modified where there is no ETag, but never a weak ETag', async () => {
    const server = await serve(200_000)
    server.etag = null
    await (await open(server)).read(100_000, new Uint8Array(1))
    expect(server.requests[1]?.headers['if-range']).toBe(server.lastModified)
    server.etag = 'W/"one"'
    await (await open(server)).read(100_000, new Uint8Array(1))
    expect(server.requests[3]?.headers['if-range']).toBeUndefined()
    server.etag = null
    server.lastModified = new Date().toUTCString()
    await (await open(server)).read(100_000, new Uint8Array(1))
    expect(server.requests[5]?.headers['if-range']).toBeUndefined()
  })

  const changes: [string, (server: RangeServer) => void, (server: RangeServer) => void][] = [
    ['a strong ETag', () => {}, (server) => (server.etag = '"two"')],
    ['a weak ETag', (server) => (server.etag = 'W/"one"'), (server) => (server.etag = 'W/"two"')],
    [
      'Last-Modified',
      (server) => (server.etag = null),
      (server) => (server.lastModified = 'Sun, 02 Jan 2022 00:00:00 GMT'),
    ],
    [
      'Last-Modified beside a weak ETag',
      (server) => (server.etag = 'W/"one"'),
      (server) => (server.lastModified = 'Sun, 02 Jan 2022 00:00:00 GMT'),
    ],
    ['the size alone', plain, (server) => (server.content = sampleBytes(500_001))],
    ['the size alone, shorter than the range', plain, (server) => (server.content = sampleBytes(1000))],
    [
      'a server that ignores If-Range',
      (server) => ignoreIfRange(server),
      (server) => (server.etag = '"two"'),
    ],
  ]
  for (const [what, before, after] of changes) {
    it(`notices a change by ${what}, and stays with it`, async () => {
      const server = await serve(500_000)
      before(server)
      const storage = await open(server)
      await storage.read(100_000, new Uint8Array(10))
      after(server)
      const error = await expectCode(() => storage.read(300_000, new Uint8Array(10)), 'IMG_NETWORK')
      expect(error.message).toContain('changed while being read')
      const asked = server.requests.length
      await expectCode(() => storage.read(400_000, new Uint8Array(10)), 'IMG_NETWORK')
      expect(server.requests.length).toBe(asked)
      await storage.read(100_000, new Uint8Array(10))
    })
  }

  function plain(server: RangeServer): void {
    server.etag = null
    server.lastModified = null
  }

  function ignoreIfRange(server: RangeServer): void {
    server.behave = ({ request, serve }) => {
      delete request.headers['if-range']
      serve()
    }
  }

  it('does without If-Range where the server answers it with the whole file of the same version', async () => {
    const server = await serve(500_000)
    server.behave = ({ request, serve }) => {
      if (request.headers['if-range'] !== undefined) request.headers['if-range'] = '"never"'
      serve()
    }
    const storage = await open(server)
    const parts = [100_000, 200_000, 300_000, 400_000].map(async (offset) => {
      const into = new Uint8Array(1000)
      await storage.read(offset, into)
      return same(into, server.content.subarray(offset, offset + 1000))
    })
    expect(await Promise.all(parts)).toEqual([true, true, true, true])
  })

  it('takes an ETag that is weak in some answers for the same version', async () => {
    const server = await serve(500_000)
    const storage = await open(server)
    server.behave = ({ request, serve }) => {
      delete request.headers['if-range']
      serve({ etag: 'W/"one"' })
    }
    await storage.read(100_000, new Uint8Array(10))
  })
})

describe('httpStorage and redirects', () => {
  it('follows them, and stays where they led', async () => {
    const [front, mirror] = [await serve(0), await serve(300_000)]
    front.behave = ({ response }) => response.writeHead(302, { location: `${mirror.url}/there` }).end()
    const storage = await open(front)
    expect(same(await readAll(storage), mirror.content)).toBe(true)
    expect(front.requests.length).toBe(1)
    expect(mirror.requests.map(({ path }) => path)).toEqual(['/there', '/there'])
  })

  it('goes back to the first URL once the other has expired', async () => {
    const [front, mirror] = [await serve(0), await serve(300_000)]
    let key = 1
    front.behave = ({ response }) =>
      response.writeHead(302, { location: `${mirror.url}/there?key=${key}` }).end()
    mirror.behave = ({ request, response, serve }) => {
      if (request.url === `/there?key=${key}`) serve()
      else response.writeHead(403).end()
    }
    const storage = await open(front, { retries: 0 })
    key = 2
    expect(same(await readAll(storage), mirror.content)).toBe(true)
    expect(front.requests.length).toBe(2)
  })

  it('gives secrets to the first origin only', async () => {
    const [front, mirror] = [await serve(0), await serve(300_000)]
    front.behave = ({ response }) => response.writeHead(307, { location: `${mirror.url}/there` }).end()
    const storage = await open(front, {
      headers: { Authorization: 'Bearer secret', Cookie: 'id=1', 'X-Other': 'o' },
    })
    await readAll(storage)
    expect(front.requests[0]?.headers).toMatchObject({ authorization: 'Bearer secret', 'x-other': 'o' })
    expect(mirror.requests.length).toBe(2)
    for (const { headers } of mirror.requests) {
      expect(headers.authorization).toBeUndefined()
      expect(headers.cookie).toBeUndefined()
      expect(headers['x-other']).toBe('o')
    }
  })
})

describe('httpStorage and secrets in URLs', () => {
  const secrets = /pass|user|signature|s3cret/

  it('turns user and password into a header', async () => {
    const server = await serve(200_000)
    const url = server.url.replace('//', '//user:p%C3%A4ss%3A@')
    const storage = await httpStorage(url)
    await readAll(storage)
    const expected = `Basic ${Buffer.from('user:päss:').toString('base64')}`
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual([expected, expected])
    expect(storage.label).toBe(`${server.url}/`)
  })

  it('shows neither them nor the query in labels and messages', async () => {
    const server = await serve(200_000)
    const url = `${server.url.replace('//', '//user:password@')}/disk?signature=s3cret#user`
    const storage = await httpStorage(url)
    expect(storage.label).toBe(`${server.url}/disk?…`)
    expect(server.requests[0]?.path).toBe('/disk?signature=s3cret')
    server.behave = ({ response }) => response.writeHead(404).end()
    const missing = await expectCode(() => readAll(storage), 'IMG_NOT_FOUND')
    expect(`${missing.message} ${missing.source}`).not.toMatch(secrets)
    const failing = await expectCode(
      () =>
        httpStorage(url, {
          retries: 0,
          fetch: (asked) => Promise.reject(new Error(`request to ${asked} failed`)),
        }),
      'IMG_NETWORK',
    )
    expect(failing.message).not.toMatch(secrets)
    expect(failing.message).toContain('failed')
    await expect(httpStorage('http://user:password@[bad/')).rejects.toThrow(
      expect.objectContaining({ message: expect.not.stringMatching(secrets) }),
    )
  })
})
