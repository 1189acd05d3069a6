import { type Format, streamImage } from '@img/core'
import { watchingAllocations } from '../allocations.js'
import { sameBytes } from '../compare.js'
import { deviceOf, mixedDisk, smallDisk } from '../content.js'
import { check, fail, onlyImageError, outcome, tell, works } from '../fault.js'
import { type Kit, nameOf } from '../kit.js'
import { spread } from '../random.js'
import type { It } from '../runner.js'
import { SparseBytes } from '../sparse-bytes.js'
import { kitSink } from '../storages/sink.js'
import { unitOf } from './stream.js'

type Reader = NonNullable<Format['readStream']>

/** Reading an image from a pipe: what the format writes to one, or what it makes. */
export function readStream(kit: Kit, it: It): void {
  const { format } = kit.subject
  const read = format.readStream?.bind(format)
  if (read === undefined) return
  const inputs = [
    ...kit.variants.map((values) => ({
      name: `an image made with ${nameOf(values)}`,
      make: async (layout: (unit: number) => SparseBytes) => {
        const content = layout(await unitOf(kit, values))
        if (format.stream === undefined) {
          const files = await kit.make(content, { values })
          return { bytes: files.main.toBytes(), content }
        }
        const sink = kitSink()
        await works('writing an image', () =>
          streamImage(format, deviceOf(content), sink, { options: values }),
        )
        return { bytes: sink.bytes(), content }
      },
    })),
    ...kit.samples.map(({ name, specimen }) => ({
      name,
      make: async () => {
        const { files, content } = await specimen()
        return { bytes: files.main.toBytes(), content }
      },
    })),
  ]
  for (const { name, make } of inputs) {
    it(`reads ${name} from a pipe, in pieces of any length, or says that it cannot`, async () => {
      const { bytes, content } = await make(mixedDisk)
      const random = kit.random(`pieces ${name}`)
      const cuts: readonly (() => number)[] = [
        () => bytes.length,
        () => 4096,
        () => 1 + random.below(3000),
        () => 1,
      ]
      for (const cut of cuts) {
        // Byte by byte, a small one is enough.
        const input = cut() === 1 ? await make(smallDisk) : { bytes, content }
        const result = await outcome(() => collect(read, pieces(input.bytes, cut)))
        if (result.failed) {
          if ((result.error as { code?: unknown }).code === 'IMG_UNSUPPORTED' && format.stream === undefined)
            return
          fail(`reading it from a pipe failed with ${tell(result.error)}`, result.error)
        }
        const expected = input.content
        if (!expected) continue
        const whole = expected.fork()
        whole.truncate(result.value.size)
        check(
          result.value.size >= expected.size && result.value.size - expected.size < 512,
          `finalSize is ${result.value.size}, expected ${expected.size}`,
        )
        sameBytes(result.value.toBytes(), whole.toBytes(), 0, 'what was read from a pipe')
      }
    })

    if (format.probe !== undefined)
      it(`refuses ${name} from a pipe where it ends too soon, or is damaged`, async () => {
        const { bytes } = await make(smallDisk)
        const random = kit.random(`damaged pipe ${name}`)
        const intact = await outcome(() =>
          collect(
            read,
            pieces(bytes, () => 512),
          ),
        )
        if (intact.failed) return
        for (const at of spread(
          Array.from({ length: Math.ceil(bytes.length / 512) }, (_, i) => i * 512),
          kit.times(60),
        )) {
          const result = await bounded(kit, () =>
            collect(
              read,
              pieces(bytes.subarray(0, at), () => 4096),
            ),
          )
          if (result.failed)
            onlyImageError(`reading ${at} of ${bytes.length} bytes from a pipe`, result.error)
          else
            sameBytes(
              result.value.toBytes(),
              intact.value.toBytes(),
              0,
              `${at} of ${bytes.length} bytes, read from a pipe without complaint`,
            )
        }
        for (let i = 0; i < kit.times(150); i++) {
          const damaged = bytes.slice()
          const at = random.below(i % 2 === 0 ? Math.min(1024, bytes.length) : bytes.length)
          damaged[at] = random.below(256)
          const result = await bounded(kit, () =>
            collect(
              read,
              pieces(damaged, () => 4096),
            ),
          )
          if (result.failed) onlyImageError(`reading from a pipe with byte ${at} damaged`, result.error)
        }
      })

    it(`passes on what a pipe fails with, and stops when told, reading ${name}`, async () => {
      const { bytes } = await make(smallDisk)
      const size = Math.max(1, Math.ceil(bytes.length / 12))
      const intact = await outcome(() =>
        collect(
          read,
          pieces(bytes, () => size),
        ),
      )
      if (intact.failed) return
      for (let n = 0; n < Math.ceil(bytes.length / size); n++) {
        const broken = new Error('the pipe of the test is broken')
        const failing = pieces(
          bytes,
          () => size,
          (count) => {
            if (count === n) throw broken
          },
        )
        const failed = await outcome(() => collect(read, failing))
        if (!failed.failed || failed.error !== broken)
          fail(
            `the pipe failed at piece ${n}; reading ${failed.failed ? `failed with ${tell(failed.error)}` : 'succeeded'}, expected the pipe's own error`,
          )
        const controller = new AbortController()
        const reason = new Error('stopped by the test')
        const stopping = pieces(
          bytes,
          () => size,
          (count) => {
            if (count === n) controller.abort(reason)
            if (count > n + 1) fail(`it went on reading the pipe after it was told to stop at piece ${n}`)
          },
        )
        const stopped = await outcome(() => collect(read, stopping, controller.signal))
        if (stopped.failed && stopped.error !== reason)
          fail(
            `stopped at piece ${n}, it failed with ${tell(stopped.error)}; expected the reason of the signal itself`,
          )
      }
    })
  }
}

/** Reads a pipe to its end; pieces out of order are faults. */
async function collect(
  read: Reader,
  input: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<SparseBytes> {
  const reader = await read(input, { label: 'pipe of the test', signal })
  const disk = new SparseBytes()
  let end = 0
  for await (const { offset, bytes } of reader.pieces()) {
    check(Number.isSafeInteger(offset) && offset >= 0, `a piece is at offset ${offset}`)
    check(offset >= end, `the pieces go back from ${end} to ${offset}`)
    disk.write(offset, bytes)
    end = offset + bytes.length
  }
  const size = reader.finalSize()
  check(Number.isSafeInteger(size) && size >= 0, `finalSize is ${size}`)
  check(end <= size, `the pieces end at ${end}, past the final size of ${size}`)
  check(
    reader.size === undefined || reader.size === size,
    `size was ${reader.size} first, and ${size} at the end`,
  )
  disk.truncate(size)
  return disk
}

async function* pieces(
  bytes: Uint8Array,
  cut: () => number,
  before?: (count: number) => void,
): AsyncGenerator<Uint8Array> {
  let count = 0
  for (let at = 0; at < bytes.length; ) {
    before?.(count++)
    const length = cut()
    // A copy, as pipes give: the reader may keep or change it.
    yield bytes.slice(at, at + length)
    at += length
  }
}

function bounded<T>(kit: Kit, action: () => Promise<T>): ReturnType<typeof outcome<T>> {
  const allocation = kit.subject.budget?.allocation ?? 64 * 1024 * 1024
  return outcome(() => watchingAllocations(allocation, action))
}
