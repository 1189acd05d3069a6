import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inflateRawSync } from 'node:zlib'
import { type CodecName, type Compress, compressHere, loadCodec } from '@img/core'
import { describe, expect, it } from 'vitest'
import { createWorkerPool } from '../src/index.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()
const built = new URL('../dist/worker.js', import.meta.url)

/** Text-like bytes, different for each seed. */
function text(length: number, seed: number): Uint8Array {
  const words = ['sector', 'cluster', 'grain', 'extent', 'hole', 'chain', 'zero']
  let state = seed + 1
  let line = ''
  while (line.length < length) {
    state = (state * 16807) % 2147483647
    line += `${words[state % words.length]}${state % 97} `
  }
  return new TextEncoder().encode(line.slice(0, length))
}

function failure(code: string): unknown {
  return expect.objectContaining({ name: 'ImageError', code })
}

describe.skipIf(!existsSync(built))('a pool of threads (skipped without a build)', () => {
  it.each<CodecName>(['deflate-raw', 'zlib', 'zstd'])(
    '%s gives the bytes that this thread gives',
    async (name) => {
      await using pool = createWorkerPool({ threads: 2 })
      const spec = { codec: name, level: 5, ...(name !== 'zstd' && { windowBits: 12 }) }
      const units = Array.from({ length: 24 }, (_, at) => text(65536 - at * 100, at))
      const packed = await Promise.all(units.map((unit) => pool.compress(unit, spec)))
      const codec = await loadCodec(name)
      units.forEach((unit, at) => {
        expect(Buffer.from(packed[at] as Uint8Array).equals(atOnce(compressHere(unit, spec)))).toBe(true)
        expect(Buffer.compare(codec.decompress(packed[at] as Uint8Array, unit.length), unit)).toBe(0)
      })
      const plain = await pool.decompressAll(
        packed,
        name,
        units.map(({ length }) => length),
      )
      plain.forEach((unit, at) => {
        expect(Buffer.compare(unit, units[at] as Uint8Array)).toBe(0)
      })
    },
  )

  /** Codecs are loaded by then: nothing is awaited. */
  function atOnce(bytes: ReturnType<Compress>): Uint8Array {
    return bytes as Uint8Array
  }

  it('compresses what core asks for', async () => {
    await using pool = createWorkerPool({ threads: 1 })
    const compress: Compress = (bytes, spec) => pool.compress(bytes, spec)
    const bytes = text(1000, 1)
    expect(await compress(bytes, { codec: 'deflate-raw' })).toEqual(
      await compressHere(bytes, { codec: 'deflate-raw' }),
    )
    expect(bytes.length).toBe(1000)
  })

  it('takes several units in one message', async () => {
    await using pool = createWorkerPool({ threads: 2 })
    const all = text(5 * 4096, 3)
    const units = [0, 1, 2, 3, 4].map((at) => all.subarray(at * 4096, (at + 1) * 4096))
    const packed = await pool.compressAll(units, { codec: 'zlib' })
    expect(packed.length).toBe(5)
    const plain = await Promise.all(packed.map((unit) => pool.decompress(unit, 'zlib', 4096)))
    expect(Buffer.concat(plain).equals(all)).toBe(true)
    expect(await pool.compressAll([], { codec: 'zlib' })).toEqual([])
  })

  it('takes buffers over where told to', async () => {
    await using pool = createWorkerPool({ threads: 1 })
    const bytes = text(4096, 4)
    const copy = bytes.slice()
    const packed = await pool.compress(bytes, { codec: 'zlib' }, { transfer: true })
    expect(bytes.length).toBe(0)
    expect(await pool.decompress(packed, 'zlib', 4096)).toEqual(copy)
    const two = [text(10, 1), text(10, 2)]
    await expect(pool.compressAll(two, { codec: 'zlib' }, { transfer: true })).rejects.toThrow(TypeError)
    await expect(pool.compress(bytes, { codec: 'zlib' }, { transfer: true })).rejects.toThrow()
    // What went wrong before it was sent takes no place from others.
    expect((await pool.compress(copy, { codec: 'zlib' })).length).toBeGreaterThan(0)
  })

  it('hands errors on', async () => {
    await using pool = createWorkerPool({ threads: 1 })
    await expect(pool.decompress(new Uint8Array(100).fill(7), 'zlib', 4096)).rejects.toEqual(
      failure('IMG_CORRUPT'),
    )
    await expect(pool.compress(text(10, 1), { codec: 'zlib', level: 99 })).rejects.toThrow(RangeError)
    await expect(pool.compress(text(10, 1), { codec: 'lzma' as CodecName })).rejects.toThrow(TypeError)
    await expect(pool.decompressAll([text(1, 1)], 'zlib', [])).rejects.toThrow(RangeError)
    expect(() => createWorkerPool({ threads: 0 })).toThrow(RangeError)
  })

  it('is aborted, in the queue and under way, and goes on', async () => {
    await using pool = createWorkerPool({ threads: 1 })
    const abort = new AbortController()
    const unit = text(500_000, 5)
    const jobs = Array.from({ length: 10 }, () =>
      pool.compress(unit, { codec: 'zlib', level: 9 }, { signal: abort.signal }),
    )
    const other = pool.compress(unit, { codec: 'zlib', level: 1 })
    abort.abort(new Error('enough'))
    const outcomes = await Promise.allSettled(jobs)
    expect(outcomes.map(({ status }) => status)).toEqual(jobs.map(() => 'rejected'))
    await expect(jobs[0]).rejects.toThrow('enough')
    expect((await other).length).toBeGreaterThan(0)
    await expect(pool.compress(unit, { codec: 'zlib' }, { signal: abort.signal })).rejects.toThrow('enough')
  })

  it('rejects what is not done when closed', async () => {
    const pool = createWorkerPool({ threads: 1 })
    const jobs = Array.from({ length: 5 }, () => pool.compress(text(500_000, 6), { codec: 'zlib', level: 9 }))
    const outcomes = Promise.allSettled(jobs)
    await pool.close()
    await pool.close()
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: failure('IMG_CLOSED') })
    await expect(pool.compress(text(1, 1), { codec: 'zlib' })).rejects.toEqual(failure('IMG_CLOSED'))
  })

  it('survives the death of a thread', async () => {
    const script = join(directory, 'worker.mjs')
    writeFileSync(
      script,
      `import { parentPort } from 'node:worker_threads'
       parentPort.on('message', ({ id, units }) => {
         if (units[0][0] === 1) process.exit(7)
         if (units[0][0] === 2) throw new Error('fault')
         parentPort.postMessage({ id, units })
       })`,
    )
    await using pool = createWorkerPool({ threads: 1, script: pathToFileURL(script) })
    for (const deadly of [1, 2]) {
      await expect(pool.compress(new Uint8Array([deadly]), { codec: 'zlib' })).rejects.toEqual(
        failure('IMG_IO'),
      )
      expect(await pool.compress(new Uint8Array([0, deadly]), { codec: 'zlib' })).toEqual(
        new Uint8Array([0, deadly]),
      )
    }
  })

  it('fails its jobs where the script is missing', async () => {
    await using pool = createWorkerPool({ script: new URL('file:///there/is/no/worker.js') })
    await expect(pool.compress(text(1, 1), { codec: 'zlib' })).rejects.toEqual(failure('IMG_IO'))
  })

  it('works from the build, and does not keep the process alive', () => {
    const script = `
      import { createWorkerPool } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
      const pool = createWorkerPool({ threads: 2 })
      const packed = await pool.compress(new Uint8Array(1000), { codec: 'zlib' })
      console.log((await pool.decompress(packed, 'zlib', 1000)).length)`
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 30_000,
    })
    expect(run).toMatchObject({ status: 0, stdout: '1000\n' })
  })

  it('compresses units in shared memory over themselves, and leaves alone what does not get shorter', async () => {
    await using pool = createWorkerPool({ threads: 2 })
    const shared = new Uint8Array(new SharedArrayBuffer(8192))
    const [text, noise] = [shared.subarray(0, 4096), shared.subarray(4096)]
    text.fill(97)
    for (let at = 0; at < noise.length; at++) noise[at] = (Math.imul(at + 1, 2654435761) >>> 13) ^ (at * at)
    const before = { text: text.slice(), noise: noise.slice() }
    const [packed, stored] = await Promise.all([
      pool.compress(text, { codec: 'deflate-raw' }),
      pool.compress(noise, { codec: 'deflate-raw', level: 0 }),
    ])
    expect(packed.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(text.slice(0, packed.length)).toEqual(packed.slice())
    expect(new Uint8Array(inflateRawSync(packed.slice()))).toEqual(before.text)
    expect(stored.length).toBeGreaterThan(4096)
    expect(noise.slice()).toEqual(before.noise)
  })
})
