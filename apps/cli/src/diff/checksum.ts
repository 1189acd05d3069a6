import { readFileSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type BlockDevice, batches, type JobOptions } from '@img/core'
import { Failure, systemText } from '../errors.js'

const zeros = new Uint8Array(1024 * 1024)
/** Bytes of zeros between two looks at what else there is to do. */
const turn = 64 * zeros.length

/** SHA-256 of all that the guest sees, as `sha256sum` tells it of the raw disk. */
export async function checksum(disk: BlockDevice, { signal, onProgress }: JobOptions = {}): Promise<string> {
  // Not at every start of the command: 4 ms.
  const { createHash } = await import('node:crypto')
  const hash = createHash('sha256')
  const buffer = new Uint8Array(zeros.length)
  for await (const { offset, length, extents } of batches(disk.extents({ holes: true, signal }), 65536)) {
    for (let at = 0; at < length; at += buffer.length) {
      signal?.throwIfAborted()
      const bytes = (extents.length === 0 ? zeros : buffer).subarray(0, Math.min(buffer.length, length - at))
      if (extents.length > 0) await disk.read(offset + at, bytes, { signal })
      // Zeros are at hand: without a turn for other things, no signal would come through.
      else if (at % turn === 0) await nextTurn()
      hash.update(bytes)
      onProgress?.({ done: offset + at + bytes.length, total: disk.size, unit: 'bytes', phase: 'checksum' })
    }
  }
  return hash.digest('hex')
}

/** What is recorded of one side. */
interface Recorded {
  readonly size: number
  readonly sha256: string
}

/** What `diff --output=json --checksum` recorded. @throws {Failure} */
export function readRecord(path: string): { readonly base: Recorded; readonly target: Recorded } {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new Failure(`Could not open '${path}': ${systemText(error) ?? String(error)}`, { cause: error })
  }
  const side = (value: unknown): Recorded => {
    const { 'virtual-size': size, sha256 } = (value ?? {}) as { 'virtual-size'?: unknown; sha256?: unknown }
    if (typeof size !== 'number' || typeof sha256 !== 'string') throw notRecord(path)
    return { size, sha256 }
  }
  let parsed: { base?: unknown; target?: unknown } | null
  try {
    parsed = JSON.parse(text) as { base?: unknown; target?: unknown } | null
  } catch {
    throw notRecord(path)
  }
  return { base: side(parsed?.base), target: side(parsed?.target) }
}

function notRecord(path: string): Failure {
  return new Failure(`'${path}' does not record checksums of two disks`, {
    hint: 'make it with: img diff --output=json --checksum A B',
  })
}
