import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ImageError } from '../src/errors.js'
import {
  contentLength,
  parseContentRange,
  parseUnsatisfiedRange,
  retryAfter,
  Validator,
} from '../src/storage/http-headers.js'
import { parseTarget } from '../src/storage/http-target.js'
import { Limiter } from '../src/storage/limiter.js'
import { PassingFailure, withRetries } from '../src/storage/retry.js'

describe('Content-Range', () => {
  it('is read as it is written', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.option(fc.nat(), { nil: undefined }), (start, more, beyond) => {
        const end = start + more + 1
        const total = beyond === undefined ? undefined : end + beyond
        expect(parseContentRange(`bytes ${start}-${end - 1}/${total ?? '*'}`)).toEqual({ start, end, total })
      }),
    )
  })

  it('is nothing where it makes no sense', () => {
    for (const value of [
      '',
      'bytes',
      'bytes 5-4/10',
      'bytes 0-10/10',
      'bytes */10',
      'bytes 0-1',
      'items 0-1/2',
      'bytes -1-2/3',
    ]) {
      expect(parseContentRange(value)).toBeUndefined()
    }
  })

  it('tells the size where a range lies past it', () => {
    expect(parseUnsatisfiedRange('bytes */1234')).toBe(1234)
    for (const value of [null, '', 'bytes */*', 'bytes 0-1/2'])
      expect(parseUnsatisfiedRange(value)).toBeUndefined()
  })
})

describe('other headers', () => {
  it('tell a length only where it is a number', () => {
    expect(contentLength(new Headers({ 'content-length': '12' }))).toBe(12)
    for (const value of ['', '-1', '1e3', '12, 12', 'many']) {
      expect(contentLength(new Headers({ 'content-length': value }))).toBeUndefined()
    }
  })

  it('tell when to come back, in seconds or by date', () => {
    const now = Date.parse('2024-01-01T00:00:00Z')
    const after = (value: string) => retryAfter(new Headers({ 'retry-after': value }), now)
    expect(after('7')).toBe(7000)
    expect(after('Mon, 01 Jan 2024 00:00:30 GMT')).toBe(30_000)
    expect(after('Sun, 31 Dec 2023 00:00:00 GMT')).toBe(0)
    expect(after('soon')).toBeUndefined()
    expect(retryAfter(new Headers(), now)).toBeUndefined()
  })
})

describe('Validator', () => {
  const date = 'Mon, 01 Jan 2024 00:10:00 GMT'
  const old = 'Mon, 01 Jan 2024 00:00:00 GMT'
  const young = 'Mon, 01 Jan 2024 00:09:59 GMT'

  it('sends only what tells versions apart for sure', () => {
    const sent = (headers: Record<string, string>) => new Validator(new Headers(headers)).ifRange
    expect(sent({ etag: '"a"', date, 'last-modified': old })).toBe('"a"')
    expect(sent({ etag: 'W/"a"', date, 'last-modified': old })).toBeUndefined()
    expect(sent({ etag: 'a', date, 'last-modified': old })).toBeUndefined()
    expect(sent({ date, 'last-modified': old })).toBe(old)
    expect(sent({ date, 'last-modified': young })).toBeUndefined()
    expect(sent({ 'last-modified': old })).toBeUndefined()
    expect(sent({ date, 'last-modified': 'whenever' })).toBeUndefined()
    expect(sent({})).toBeUndefined()
  })

  it('compares what both answers have', () => {
    const differs = (a: Record<string, string>, b: Record<string, string>) =>
      new Validator(new Headers(a)).difference(new Headers(b)) !== undefined
    expect(differs({ etag: '"a"' }, { etag: '"a"' })).toBe(false)
    expect(differs({ etag: '"a"' }, { etag: '"b"' })).toBe(true)
    expect(differs({ etag: '"a"' }, { etag: 'W/"a"' })).toBe(false)
    expect(differs({ etag: 'W/"a"' }, { etag: 'W/"b"' })).toBe(true)
    expect(differs({ etag: '"a"' }, {})).toBe(false)
    expect(differs({}, { etag: '"a"' })).toBe(false)
    expect(differs({ 'last-modified': old }, { 'last-modified': young })).toBe(true)
    expect(differs({ etag: '"a"', 'last-modified': old }, { 'last-modified': young })).toBe(true)
    // Two machines may hold the same file with other dates.
    expect(differs({ etag: '"a"', 'last-modified': old }, { etag: '"a"', 'last-modified': young })).toBe(
      false,
    )
    expect(differs({ etag: 'W/"a"', 'last-modified': old }, { etag: 'W/"a"', 'last-modified': young })).toBe(
      true,
    )
  })
})

describe('withRetries', () => {
  beforeEach(() => vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  /** Milliseconds that passed before each try, when all fail. */
  async function waits(options: Parameters<typeof withRetries>[0], after = 0): Promise<number[]> {
    const times: number[] = []
    const error = new ImageError('IMG_NETWORK', 'down')
    const ended = withRetries(options, new AbortController().signal, () => {
      times.push(Date.now())
      return Promise.reject(new PassingFailure(error, after))
    }).catch((thrown: unknown) => expect(thrown).toBe(error))
    await vi.runAllTimersAsync()
    await ended
    return times.slice(1).map((time, i) => time - (times[i] ?? 0))
  }

  it('waits twice as long each time, a part of it by chance, and not beyond 30 s', async () => {
    const all = await waits({ retries: 10, retryDelay: 300 })
    expect(all.length).toBe(10)
    all.forEach((wait, i) => {
      const most = Math.min(30_000, 300 * 2 ** i)
      expect(wait).toBeGreaterThanOrEqual(Math.floor(most / 2))
      expect(wait).toBeLessThanOrEqual(most + 1)
    })
  })

  it('waits four times by default', async () => {
    expect((await waits({})).length).toBe(4)
  })

  it('waits as long as a function says, or the server where that is longer', async () => {
    expect(await waits({ retries: 3, retryDelay: (attempt) => attempt * 10 })).toEqual([10, 20, 30])
    expect(await waits({ retries: 3, retryDelay: (attempt) => attempt * 1000 }, 2500)).toEqual([
      2500, 2500, 3000,
    ])
  })

  it('does not wait for hours', async () => {
    expect(await waits({ retries: 3 }, 3_600_000)).toEqual([])
  })

  it('passes on other errors at once', async () => {
    const error = new ImageError('IMG_NOT_FOUND', 'no')
    let tries = 0
    const ended = withRetries({}, new AbortController().signal, () => {
      tries++
      return Promise.reject(error)
    })
    await expect(ended).rejects.toBe(error)
    expect(tries).toBe(1)
  })
})

describe('Limiter', () => {
  it('runs so many at a time, in order, and none that was given up', async () => {
    const limiter = new Limiter(2)
    const never = new AbortController()
    const order: number[] = []
    const ends: (() => void)[] = []
    const task = (id: number, signal = never.signal) =>
      limiter.run(() => {
        order.push(id)
        return new Promise<void>((resolve) => ends.push(resolve))
      }, signal)
    const controller = new AbortController()
    const running = [task(0), task(1), task(2)]
    const given = task(3, controller.signal)
    running.push(task(4))
    expect(order).toEqual([0, 1])
    controller.abort(new Error('enough'))
    await expect(given).rejects.toThrow('enough')
    for (let i = 0; i < 4; i++) {
      ends[i]?.()
      await new Promise((resolve) => setTimeout(resolve, 0))
    }
    await Promise.all(running)
    expect(order).toEqual([0, 1, 2, 4])
  })

  it('gives a turn on that came too late', async () => {
    const limiter = new Limiter(1)
    const signal = new AbortController().signal
    const late = new AbortController()
    let end: () => void = () => undefined
    const first = limiter.run(() => new Promise<void>((resolve) => (end = resolve)), signal)
    const second = limiter.run(async () => 'second', late.signal)
    const third = limiter.run(async () => 'third', signal)
    end()
    void first.then(() => late.abort(new Error('late')))
    const results = await Promise.allSettled([second, third])
    expect(results[1]).toEqual({ status: 'fulfilled', value: 'third' })
  })
})

describe('parseTarget', () => {
  it('takes any scheme for a fetch that knows it', () => {
    expect(parseTarget('s3://bucket/disk.qcow2?x=1', true)).toEqual({
      href: 's3://bucket/disk.qcow2?x=1',
      label: 's3://bucket/disk.qcow2?…',
      authorization: undefined,
    })
    expect(() => parseTarget('s3://bucket/disk', false)).toThrow(TypeError)
  })

  it('leaves the caller’s URL as it was', () => {
    const url = new URL('http://user:pw@host/disk#part')
    expect(parseTarget(url, false)).toEqual({
      href: 'http://host/disk',
      label: 'http://host/disk',
      authorization: `Basic ${btoa('user:pw')}`,
    })
    expect(url.password).toBe('pw')
    expect(parseTarget('http://a%zz@host/', false).authorization).toBe(`Basic ${btoa('a%zz:')}`)
  })
})
