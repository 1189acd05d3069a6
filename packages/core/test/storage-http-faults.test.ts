import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { type HttpOptions, httpStorage } from '../src/storage/http.js'
import { expectCode, readAll, same, sampleBytes } from './storage-contract.js'
import { type Exchange, type RangeServer, startRangeServer } from './support/range-server.js'

const servers: RangeServer[] = []

async function serve(size: number, behave?: (exchange: Exchange) => void): Promise<RangeServer> {
  const server = await startRangeServer(sampleBytes(size))
  server.behave = behave
  servers.push(server)
  return server
}

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

const open = (server: RangeServer, options: HttpOptions = {}) =>
  httpStorage(server.url, { retryDelay: 1, ...options })

describe('httpStorage refuses a server that', () => {
  it('ignores Range, without downloading the file', async () => {
    let sent = 0
    const server = await serve(1000, ({ response }) => {
      response.writeHead(200, { 'content-length': String(2 ** 40) })
      const more = (): void => {
        sent += 65536
        if (!response.destroyed) response.write(new Uint8Array(65536), () => setImmediate(more))
      }
      more()
    })
    const error = await expectCode(() => open(server), 'IMG_NETWORK')
    expect(error.message).toContain('ignores the Range header')
    expect(error.hint).toContain('byte ranges')
    expect(server.requests.length).toBe(1)
    expect(sent).toBeLessThan(2 ** 30)
  })

  it('ignores Range for a small file too', async () => {
    const server = await serve(100)
    server.behave = ({ response }) => response.writeHead(200, { 'content-length': '100' }).end(server.content)
    await expectCode(() => open(server), 'IMG_NETWORK')
  })

  it('stops to support Range midway', async () => {
    const server = await serve(300_000)
    server.etag = null
    server.lastModified = null
    const storage = await open(server)
    server.behave = ({ response }) =>
      response.writeHead(200, { 'content-length': '300000' }).end(server.content)
    const error = await expectCode(() => readAll(storage), 'IMG_NETWORK')
    expect(error.message).toContain('ignores the Range header')
  })

  for (const [what, header] of [
    ['sends another range', 'bytes 100-65635/300000'],
    ['sends more than was asked for', 'bytes 65536-299999/300000'],
    ['sends nonsense for a range', 'bytes 65536-zzz/300000'],
    ['sends a range that ends past the size', 'bytes 65536-131071/70000'],
    ['sends another unit', 'items 65536-131071/300000'],
  ] as const) {
    it(what, async () => {
      const server = await serve(300_000)
      const storage = await open(server)
      server.behave = ({ serve }) => serve({ 'content-range': header })
      const error = await expectCode(() => storage.read(70_000, new Uint8Array(10)), 'IMG_NETWORK')
      expect(error.offset).toBe(65536)
      expect(server.requests.length).toBe(2)
    })
  }

  it('leaves out Content-Range', async () => {
    const server = await serve(300_000, ({ serve }) => serve({ 'content-range': null }))
    const error = await expectCode(() => open(server), 'IMG_NETWORK')
    expect(error.message).toContain('without Content-Range')
  })

  it('sends more than it says', async () => {
    const server = await serve(300_000)
    const storage = await open(server)
    server.behave = ({ response }) => {
      response.writeHead(206, { 'content-range': 'bytes 65536-131071/300000' })
      response.end(server.content.subarray(65536, 140_000))
    }
    const error = await expectCode(() => storage.read(70_000, new Uint8Array(10)), 'IMG_NETWORK')
    expect(error.message).toContain('more than that')
  })

  it('compresses on the way', async () => {
    const server = await serve(300_000, ({ response }) => {
      const headers = { 'content-encoding': 'gzip', 'content-range': 'bytes 0-65535/300000' }
      response.writeHead(206, headers).end(gzipSync(new Uint8Array(65536)))
    })
    const error = await expectCode(() => open(server), 'IMG_NETWORK')
    expect(error.message).toContain('gzip')
    server.behave = ({ serve }) => serve({ 'content-encoding': 'identity' })
    expect((await open(server)).size).toBe(300_000)
  })

  it('answers with several parts', async () => {
    const server = await serve(300_000, ({ serve }) =>
      serve({ 'content-type': 'multipart/byteranges; boundary=x', 'content-range': null }),
    )
    const error = await expectCode(() => open(server), 'IMG_NETWORK')
    expect(error.message).toContain('multipart')
  })

  it('tells a size beyond 2^53', async () => {
    const server = await serve(300_000, ({ serve }) =>
      serve({ 'content-range': `bytes 0-65535/${2n ** 60n}` }),
    )
    await expectCode(() => open(server), 'IMG_UNSUPPORTED_SIZE')
  })

  it('sends crumbs', async () => {
    const server = await serve(300_000)
    const storage = await open(server)
    server.behave = ({ response, range }) => {
      const start = range?.start ?? 0
      response.writeHead(206, { 'content-range': `bytes ${start}-${start}/300000` }).end(Uint8Array.of(1))
    }
    await expectCode(() => storage.read(70_000, new Uint8Array(10_000)), 'IMG_TRUNCATED')
    expect(server.requests.length).toBeLessThan(100)
  })

  for (const [status, code] of [
    [400, 'IMG_NETWORK'],
    [401, 'IMG_PERMISSION'],
    [403, 'IMG_PERMISSION'],
    [404, 'IMG_NOT_FOUND'],
    [410, 'IMG_NOT_FOUND'],
    [416, 'IMG_NETWORK'],
    [418, 'IMG_NETWORK'],
  ] as const) {
    it(`answers ${status}, at once`, async () => {
      const server = await serve(1000, ({ response }) => response.writeHead(status).end('no'))
      const error = await expectCode(() => open(server), code)
      expect(error.message).toContain(String(status))
      if (code === 'IMG_PERMISSION') expect(error.hint).toContain('https://NAME:PASSWORD@')
      expect(server.requests.length).toBe(1)
    })
  }
})

describe('httpStorage tries again', () => {
  for (const status of [408, 429, 500, 502, 503, 504]) {
    it(`after ${status}`, async () => {
      const server = await serve(300_000, ({ response, count, serve }) => {
        if (count % 2 === 0) response.writeHead(status).end()
        else serve()
      })
      const storage = await open(server)
      expect(same(await readAll(storage), server.content)).toBe(true)
      expect(server.requests.length).toBe(4)
    })
  }

  it('as often as it is told, and then reports the status', async () => {
    const server = await serve(1000, ({ response }) => response.writeHead(503).end())
    const error = await expectCode(() => open(server, { retries: 2 }), 'IMG_NETWORK')
    expect(error.message).toContain('503')
    expect(server.requests.length).toBe(3)
    await expectCode(() => open(server, { retries: 0 }), 'IMG_NETWORK')
    expect(server.requests.length).toBe(4)
  })

  it('not at all where Retry-After is too far away', async () => {
    const server = await serve(1000, ({ response }) =>
      response.writeHead(429, { 'retry-after': '3600' }).end(),
    )
    await expectCode(() => open(server), 'IMG_NETWORK')
    expect(server.requests.length).toBe(1)
    const date = new Date(Date.now() + 3_600_000).toUTCString()
    server.behave = ({ response }) => response.writeHead(503, { 'retry-after': date }).end()
    await expectCode(() => open(server), 'IMG_NETWORK')
    expect(server.requests.length).toBe(2)
  })

  it('after the delays that it is told', async () => {
    const asked: number[] = []
    const server = await serve(1000, ({ response }) => response.writeHead(500).end())
    const retryDelay = (attempt: number): number => {
      asked.push(attempt)
      return 0
    }
    await expectCode(() => open(server, { retries: 3, retryDelay }), 'IMG_NETWORK')
    expect(asked.slice(0, 3)).toEqual([1, 2, 3])
  })

  it('where the connection is dropped, going on where it broke', async () => {
    const server = await serve(500_000)
    const storage = await open(server)
    server.behave = ({ response, range, count, serve }) => {
      if (count > 3 || range === undefined) return serve()
      const { start, end } = range
      response.writeHead(206, {
        'content-range': `bytes ${start}-${Math.min(end, 500_000) - 1}/500000`,
        'content-length': String(Math.min(end, 500_000) - start),
      })
      response.write(server.content.subarray(start, start + 50_000), () =>
        setTimeout(() => response.destroy(), 20),
      )
    }
    expect(same(await readAll(storage), server.content)).toBe(true)
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([
      'bytes=0-65535',
      'bytes=65536-499999',
      'bytes=115536-499999',
      'bytes=165536-499999',
      'bytes=215536-499999',
    ])
  })

  it('where the connection is dropped every time, but not for ever', async () => {
    const server = await serve(1000, ({ request }) => request.socket.destroy())
    const error = await expectCode(() => open(server, { retries: 2 }), 'IMG_NETWORK')
    expect(error.message).toContain('connection')
    expect(error.cause).toBeInstanceOf(Error)
    expect(server.requests.length).toBe(3)
  })

  it('where a body is short; IMG_TRUNCATED where it stays so', async () => {
    let short = 2
    const server = await serve(300_000)
    const storage = await open(server)
    server.behave = ({ response, range, serve }) => {
      if (range === undefined || short-- <= 0) return serve()
      response.writeHead(206, { 'content-range': `bytes ${range.start}-${range.end - 1}/300000` })
      response.end(server.content.subarray(range.start, range.start + 100))
    }
    const into = new Uint8Array(1000)
    await storage.read(70_000, into)
    expect(same(into, server.content.subarray(70_000, 71_000))).toBe(true)
    expect(server.requests.length).toBe(4)
    server.behave = ({ response, range }) => {
      response
        .writeHead(206, { 'content-range': `bytes ${range?.start}-${(range?.end ?? 0) - 1}/300000` })
        .end()
    }
    const error = await expectCode(() => storage.read(140_000, into), 'IMG_TRUNCATED')
    expect(error.offset).toBe(131072)
    expect(server.requests.length).toBe(4 + 5)
  })

  it('where nothing comes for too long', async () => {
    const server = await serve(300_000, ({ count, response, serve }) => {
      if (count === 0) return
      if (count === 1) response.writeHead(206, { 'content-range': 'bytes 0-65535/300000' }).write('x')
      else serve()
    })
    const storage = await open(server, { timeout: 100 })
    expect(storage.size).toBe(300_000)
    expect(server.requests.length).toBe(3)
    server.behave = () => undefined
    const error = await expectCode(() => open(server, { timeout: 50, retries: 1 }), 'IMG_NETWORK')
    expect(error.message).toContain('sent nothing for 0.1 s')
  })

  it('not where the host is unknown', async () => {
    let asked = 0
    const fetch = () => {
      asked++
      const cause = Object.assign(new Error('getaddrinfo ENOTFOUND disks.invalid\n'), { code: 'ENOTFOUND' })
      return Promise.reject(new TypeError('fetch failed', { cause }))
    }
    const error = await expectCode(() => httpStorage('http://disks.invalid/', { fetch }), 'IMG_NETWORK')
    expect(error.message).toMatch(/: getaddrinfo ENOTFOUND disks\.invalid$/)
    expect(asked).toBe(1)
  })

  it('later, where a read failed', async () => {
    const server = await serve(300_000)
    const storage = await open(server, { retries: 0 })
    server.behave = ({ response }) => response.writeHead(500).end()
    await expectCode(() => readAll(storage), 'IMG_NETWORK')
    server.behave = undefined
    expect(same(await readAll(storage), server.content)).toBe(true)
  })
})

describe('httpStorage gives up', () => {
  const reason = new Error('enough')

  it('opening, before and after it began', async () => {
    const server = await serve(1000, () => undefined)
    await expect(open(server, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(server.requests.length).toBe(0)
    const controller = new AbortController()
    const opening = open(server, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 20)
    await expect(opening).rejects.toBe(reason)
  })

  it('waiting to try again', async () => {
    const server = await serve(1000, ({ response }) => response.writeHead(503, { 'retry-after': '60' }).end())
    const controller = new AbortController()
    const opening = open(server, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 50)
    await expect(opening).rejects.toBe(reason)
    expect(server.requests.length).toBe(1)
  })

  it('a read before its answer, amid its body, and in the queue, ending the requests', async () => {
    const server = await serve(40_000_000)
    const storage = await open(server)
    let ended = 0
    server.behave = ({ response, count, range }) => {
      response.on('close', () => ended++)
      if (count % 2 === 0) return
      response.writeHead(206, { 'content-range': `bytes ${range?.start}-${(range?.end ?? 0) - 1}/40000000` })
      response.write(new Uint8Array(1000))
    }
    const controller = new AbortController()
    const into = new Uint8Array(36_000_000)
    const reading = storage.read(100_000, into, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 100)
    await expect(reading).rejects.toBe(reason)
    await expect.poll(() => ended).toBe(6)
    expect(server.requests.length).toBe(7)
    server.behave = undefined
    await storage.read(100_000, into)
    expect(same(into, server.content.subarray(100_000, 36_100_000))).toBe(true)
  })

  it('even where the fetch does not listen to signals', async () => {
    const server = await serve(300_000)
    let deaf = false
    const storage = await open(server, {
      fetch: (url, init) => (deaf ? new Promise<Response>(() => undefined) : fetch(url, init)),
    })
    deaf = true
    const controller = new AbortController()
    const reading = storage.read(100_000, new Uint8Array(1), { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 10)
    await expect(reading).rejects.toBe(reason)
  })

  it('when it is closed', async () => {
    const server = await serve(300_000)
    const storage = await open(server)
    let ended = false
    server.behave = ({ response }) => void response.on('close', () => (ended = true))
    const reading = storage.read(100_000, new Uint8Array(1))
    setTimeout(() => void storage.close(), 20)
    await expect(reading).rejects.toMatchObject({ code: 'IMG_CLOSED' })
    await expect.poll(() => ended).toBe(true)
  })
})
