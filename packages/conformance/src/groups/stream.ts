import { type Format, ImageError, streamImage } from '@img/core'
import { sameContent } from '../compare.js'
import { deviceOf, mixedDisk, smallDisk } from '../content.js'
import { check, fail, isRefusal, outcome, tell, works } from '../fault.js'
import { ImageFiles } from '../image-files.js'
import { type Kit, nameOf, type Values } from '../kit.js'
import { spread } from '../random.js'
import { type It, notApplicable } from '../runner.js'
import { using } from '../session.js'
import { SparseBytes } from '../sparse-bytes.js'
import { type KitSink, kitSink } from '../storages/sink.js'
import { walk } from './extents.js'

/** Writing a whole image to a sink that only goes forward. */
export function stream(kit: Kit, it: It): void {
  const { format, secret } = kit.subject
  if (format.stream === undefined) return
  for (const values of kit.subject.options ?? [{}]) {
    it(`writes an image forward only, made with ${nameOf(values)}`, async () => {
      await mustStream(kit, values)
      for (const layout of [mixedDisk, smallDisk, emptyDisk, noDisk]) {
        const content = layout(await unitOf(kit, values))
        for (const sparse of [4096, 0]) {
          const sink = kitSink()
          const result = await outcome(() =>
            streamImage(format, deviceOf(content), sink, { options: values, sparse, secret }),
          )
          if (sink.faults[0]) throw sink.faults[0]
          // A format that has no disk of size nothing refuses it here as where it makes one in a file.
          if (result.failed && layout === noDisk && ImageError.is(result.error, 'IMG_UNSUPPORTED_SIZE'))
            continue
          if (result.failed) fail(`writing an image failed with ${tell(result.error)}`, result.error)
          await readsBack(kit, values, sink, content, `what was written${sparse === 0 ? ', zeros too' : ''}`)
        }
      }
    })

    it(`writes a compressed image forward only, made with ${nameOf(values)}, or says that it cannot`, async () => {
      const content = mixedDisk(await unitOf(kit, values))
      const sink = kitSink()
      const result = await outcome(() =>
        streamImage(format, deviceOf(content), sink, { options: values, compress: true, secret }),
      )
      if (sink.faults[0]) throw sink.faults[0]
      if (result.failed) {
        if (isRefusal(result.error, isFirst(kit, values))) return
        fail(`writing a compressed image failed with ${tell(result.error)}`, result.error)
      }
      await readsBack(kit, values, sink, content, 'what was written compressed')
    })

    it(`passes on what a sink fails with, made with ${nameOf(values)}`, async () => {
      await mustStream(kit, values)
      const content = smallDisk(await unitOf(kit, values))
      await atEveryWrite(kit, format, values, content, async (n) => {
        const broken = new Error('the sink of the test is broken')
        const sink = kitSink({
          before: (count) => {
            if (count === n) throw broken
          },
        })
        const result = await outcome(() =>
          streamImage(format, deviceOf(content), sink, { options: values, secret }),
        )
        if (!result.failed) fail(`the sink failed at write ${n}, and writing the image succeeded`)
        if (result.error !== broken)
          fail(
            `the sink failed at write ${n}; the image failed with ${tell(result.error)}, expected the sink's own error`,
          )
        check(sink.writes === n, `it went on writing after the sink had failed at write ${n}`)
      })
    })

    it(`stops writing when told, made with ${nameOf(values)}`, async () => {
      await mustStream(kit, values)
      const content = mixedDisk(await unitOf(kit, values))
      await atEveryWrite(kit, format, values, content, async (n, total) => {
        const controller = new AbortController()
        const reason = new Error('stopped by the test')
        const sink = kitSink({
          before: (count) => {
            if (count === n) controller.abort(reason)
          },
        })
        const result = await outcome(() =>
          streamImage(format, deviceOf(content), sink, {
            options: values,
            signal: controller.signal,
            secret,
          }),
        )
        if (!result.failed) {
          // What was aborted with its last write is done.
          if (n < total) fail(`it ignored the abort at write ${n} of ${total}, and succeeded`)
          return
        }
        if (result.error !== reason)
          fail(
            `aborted at write ${n}, it failed with ${tell(result.error)}; expected the reason of the signal itself`,
          )
        check(sink.writes <= n + 1, `aborted at write ${n}, it wrote ${sink.writes - n} times more`)
      })
      const early = new AbortController()
      const reason = new Error('stopped by the test')
      early.abort(reason)
      const sink = kitSink()
      const result = await outcome(() =>
        streamImage(format, deviceOf(content), sink, { options: values, signal: early.signal, secret }),
      )
      if (!result.failed || result.error !== reason)
        fail('it ignored a signal that was aborted before it began')
    })
  }
}

function isFirst(kit: Kit, values: Values): boolean {
  return values === (kit.subject.options?.[0] ?? values)
}

/** Leaves a test of options that cannot be streamed (a data file apart), unless they are the first. */
async function mustStream(kit: Kit, values: Values): Promise<void> {
  const { format } = kit.subject
  if (format.stream === undefined || isFirst(kit, values)) return
  const result = await outcome(() =>
    streamImage(format, deviceOf(noDisk()), kitSink(), { options: values, secret: kit.subject.secret }),
  )
  if (result.failed && isRefusal(result.error, false)) notApplicable('these options cannot be streamed')
}

/** A disk that holds nothing. */
function emptyDisk(unit: number): SparseBytes {
  return new SparseBytes(unit * 3)
}

/** A disk of no bytes. */
function noDisk(): SparseBytes {
  return new SparseBytes(0)
}

/** Guest bytes in a cluster; a format that only streams does not tell. */
export function unitOf(kit: Kit, values: Values): Promise<number> {
  return kit.subject.format.create ? kit.unit(values) : Promise.resolve(65536)
}

async function atEveryWrite(
  kit: Kit,
  format: Format,
  values: Values,
  content: SparseBytes,
  run: (n: number, total: number) => Promise<void>,
): Promise<void> {
  const all = kitSink()
  await works('writing an image', () =>
    streamImage(format, deviceOf(content), all, { options: values, secret: kit.subject.secret }),
  )
  const writes = Array.from({ length: all.writes }, (_, i) => i + 1)
  for (const n of spread(writes, kit.times(12))) await run(n, all.writes)
}

async function readsBack(
  kit: Kit,
  values: Values,
  sink: KitSink,
  content: SparseBytes,
  what: string,
): Promise<void> {
  const files = new ImageFiles(SparseBytes.of(sink.bytes()))
  const expected = content.fork()
  expected.truncate(await kit.sizeOf(files, content.size, values))
  await using(kit, files, {}, async (image) => {
    await sameContent(image, expected, what)
    await walk(image, 0, image.size, true)
  })
}
