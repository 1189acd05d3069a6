import { createHash } from 'node:crypto'
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'

const mib = 1024 * 1024

/** Words of a text whose DEFLATE ratio is that of ordinary prose and source. */
const words = (
  'the of disk and image to in a is that for it block was on cluster as with be by at this from backing or an header ' +
  'are which table has not offset but one you all can been their when more entry length bytes refcount who will no ' +
  'function return const export import size value error null true false await async interface string number object'
).split(' ')

/** A generator of pseudo-random 32-bit numbers (xorshift): the same image on every machine. */
function random(seed) {
  let state = seed | 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

function text(bytes, next) {
  let line = ''
  for (let at = 0; at < bytes.length; ) {
    line = ''
    while (line.length < 400)
      line += `${words[next() % words.length]}${next() % 9 === 0 ? ` ${next() % 10000},` : ' '}`
    at += bytes.write(`${line}\n`, at, 'latin1')
  }
}

function noise(bytes, seed) {
  // SHA-256 of a counter, spread by a copy with another first word each 4 KiB: incompressible, and quick to make.
  for (let at = 0; at < bytes.length; at += 32) {
    if (at % 4096 === 0 || at < 4096) createHash('sha256').update(`${seed}/${at}`).digest().copy(bytes, at)
    else
      for (let i = 0; i < 32; i += 4)
        bytes.writeUInt32LE((bytes.readUInt32LE(at - 4096 + i) * 2654435761 + at) >>> 0, at + i)
  }
}

/**
 * Writes a raw image like a used disk: a third of holes, some written zeros, text, executables, incompressible data.
 * @param {string} path where
 * @param {number} size bytes, a multiple of 16 MiB
 */
export function makeImage(path, size) {
  const file = openSync(path, 'wx')
  const binary = openSync(process.execPath, 'r')
  const next = random(20261)
  const chunk = Buffer.alloc(mib)
  try {
    ftruncateSync(file, size)
    for (let at = 0; at < size; ) {
      const run = Math.min((1 + (next() % 24)) * mib, size - at)
      const kind = next() % 100
      for (let done = 0; done < run && kind >= 32; done += mib) {
        if (kind < 40) chunk.fill(0)
        else if (kind < 55) text(chunk, next)
        else if (kind < 70) readSync(binary, chunk, 0, mib, (next() % 60) * mib)
        else noise(chunk, at + done)
        writeSync(file, chunk, 0, mib, at + done)
      }
      at += run
    }
  } finally {
    closeSync(binary)
    closeSync(file)
  }
}
