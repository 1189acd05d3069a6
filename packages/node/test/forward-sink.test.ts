import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { forwardSink, openForwardSink } from '../src/index.js'
import { temporaryDirectory } from './support/temp.js'
import { hasTool, run } from './support/tools.js'

const directory = temporaryDirectory()
const posix = process.platform !== 'win32'
const block = Buffer.alloc(300_000, 7)

describe('a file', () => {
  it('is written from where the descriptor stands', async () => {
    const path = join(directory, 'file')
    const fd = openSync(path, 'w')
    try {
      const sink = forwardSink(fd, 'stdout')
      await sink.write(Buffer.from('head'))
      await sink.write(block)
      await sink.close()
    } finally {
      closeSync(fd)
    }
    expect(readFileSync(path).equals(Buffer.concat([Buffer.from('head'), block]))).toBe(true)
  })

  it.skipIf(!existsSync('/dev/full'))(
    'that is full says so (skipped where there is no /dev/full)',
    async () => {
      const sink = await openForwardSink('/dev/full')
      await expect(sink.write(block)).rejects.toEqual(
        expect.objectContaining({ code: 'IMG_NO_SPACE', source: '/dev/full' }),
      )
      await sink.close()
      await sink.close()
    },
  )
})

describe.skipIf(!posix || !hasTool('mkfifo'))('a FIFO (skipped without mkfifo)', () => {
  function fifo(name: string): string {
    const path = join(directory, name)
    run('mkfifo', path)
    return path
  }

  it('waits for its reader, who gets every byte', async () => {
    const path = fifo('whole')
    const opening = openForwardSink(path)
    const reader = spawn('sh', ['-c', 'sleep 0.2; cksum < "$0"', path])
    const output = once(reader.stdout, 'data')
    const sink = await opening
    for (let at = 0; at < 20; at++) await sink.write(block)
    await sink.close()
    await sink.close()
    const expected = run('sh', '-c', 'head -c 6000000 /dev/zero | tr "\\000" "\\007" | cksum').output
    expect(String((await output)[0])).toBe(expected)
  })

  it('tells when its reader has gone', async () => {
    const path = fifo('gone')
    const reader = spawn('sh', ['-c', 'head -c 10 < "$0" > /dev/null', path])
    const sink = await openForwardSink(path)
    const writing = (async () => {
      for (;;) await sink.write(block)
    })()
    await expect(writing).rejects.toEqual(expect.objectContaining({ code: 'IMG_IO', source: path }))
    await sink.close()
    reader.kill()
  })

  it('is no longer waited for when aborted', async () => {
    const abort = new AbortController()
    const opening = openForwardSink(fifo('alone'), { signal: abort.signal })
    abort.abort()
    await expect(opening).rejects.toEqual(expect.objectContaining({ name: 'AbortError' }))
  })
})

it('what cannot be opened is named', async () => {
  const path = join(directory, 'missing')
  await expect(openForwardSink(path)).rejects.toEqual(
    expect.objectContaining({ code: 'IMG_NOT_FOUND', source: path }),
  )
})
