import { convert, createWriter } from '@img/core'
import { sameRange } from '../compare.js'
import { deviceOf, fill, pattern, smallDisk } from '../content.js'
import { check, fail, outcome, tell, works } from '../fault.js'
import { ImageFiles } from '../image-files.js'
import { type Kit, nameOf } from '../kit.js'
import { spread } from '../random.js'
import { type It, notApplicable } from '../runner.js'
import { Session, using } from '../session.js'
import { SparseBytes } from '../sparse-bytes.js'
import type { Call } from '../storages/kit-storage.js'
import { walk } from './extents.js'
import { sameAs } from './reads.js'

/** Calls of the storage that may still be made once the signal is aborted, by what had begun to change the image. */
const tailCalls = 16

/** Aborting at every call of the storage. */
export function abort(kit: Kit, it: It): void {
  for (const source of kit.sources) {
    it(`gives up opening ${source.name} at every call of the storage`, async () => {
      const { files, openOptions } = await source.specimen()
      await everywhere(kit, 'opening', async (stop) => {
        const { signal } = stop
        const session = new Session(kit, files.fork(), { openOptions, signal, before: stop.hook })
        const result = await stop.during(() => session.open())
        if (!result.failed) await result.value.close()
        session.assertClosed()
      })
    })

    it(`gives up reading ${source.name} at every call of the storage, and reads well afterwards`, async () => {
      const specimen = await source.specimen()
      await everywhere(kit, 'reading', async (stop) => {
        const { openOptions } = specimen
        await using(kit, specimen.files.fork(), { openOptions, before: stop.hook }, async (image) => {
          await stop.during((signal) => image.read(0, new Uint8Array(image.size), { signal }))
          await sameAs(image, specimen, `${source.name}, after a read was aborted`)
        })
      })
    })

    it(`gives up listing the extents of ${source.name}, and lists them well afterwards`, async () => {
      const { files, openOptions } = await source.specimen()
      await everywhere(kit, 'listing extents', async (stop) => {
        await using(kit, files.fork(), { openOptions, before: stop.hook }, async (image) => {
          await stop.during(async (signal) => {
            for await (const _ of image.extents({ signal, holes: true }));
          })
          await walk(image, 0, image.size, true)
        })
      })
    })
  }

  for (const values of kit.variants) {
    it(`gives up making an image with ${nameOf(values)} at every call of the storage`, async () => {
      const content = smallDisk(await kit.unit(values))
      await everywhere(kit, 'making an image', async (stop) => {
        const files = new ImageFiles()
        const session = new Session(kit, files, { writable: true, before: stop.hook })
        const result = await stop.during(async (signal) => {
          const options = { size: content.size, options: values, ...session.leave, signal }
          const writer = await createWriter(kit.format, session.main, options)
          try {
            await convert(deviceOf(content), writer, { signal })
          } finally {
            await writer.close?.()
          }
        }, true)
        for (const { label, closed } of session.storages.slice(1)) check(closed > 0, `${label} was left open`)
        if (result.failed) await noHalfImage(kit, files, content)
      })
    })

    it(`gives up changes at every call of the storage, and loses nothing else, with ${nameOf(values)}`, async () => {
      const abilities = await kit.abilities(values)
      if (!abilities.write) notApplicable('this format is not written in place')
      for (const change of ['write', 'writeZeroes', 'flush'] as const) await abortChange(kit, values, change)
      if (abilities.discard) await abortChange(kit, values, 'discard')
    })
  }
}

/** One run of an action, to be aborted at a certain call. */
interface Stop {
  readonly signal: AbortSignal
  readonly hook: (call: Call) => void
  /**
   * Runs the action; only calls made during it count. Demands that it rejects with the reason of the signal; an action
   * that `changes` may instead finish what it had begun.
   */
  during<T>(
    action: (signal: AbortSignal) => Promise<T>,
    changes?: boolean,
  ): Promise<{ readonly failed: true } | { readonly failed: false; readonly value: T }>
}

/** Runs an action as often as it makes calls, aborted at another one each time. */
async function everywhere(kit: Kit, what: string, run: (stop: Stop) => Promise<void>): Promise<void> {
  const { calls: total } = await attempt(what, Number.POSITIVE_INFINITY, run)
  const at = Array.from({ length: total }, (_, i) => i + 1)
  for (const n of [0, ...spread(at, kit.times(40))]) await attempt(what, n, run)
}

async function attempt(
  what: string,
  n: number,
  run: (stop: Stop) => Promise<void>,
): Promise<{ calls: number }> {
  const controller = new AbortController()
  const reason = new Error('stopped by the test')
  let counting = false
  let calls = 0
  let last = 'before anything was done'
  if (n === 0) controller.abort(reason)
  await run({
    signal: controller.signal,
    hook(call) {
      if (!counting) return
      calls++
      if (calls !== n) return
      last = `at call ${n} of the storage (${call.op} of ${call.length} bytes at ${call.offset})`
      controller.abort(reason)
    },
    async during(action, changes = false) {
      counting = true
      const result = await outcome(() => action(controller.signal))
      counting = false
      if (n > calls) {
        if (result.failed) fail(`${what} failed with ${tell(result.error)}`, result.error)
        return result
      }
      const ignored = `${what} ignored the abort ${last}`
      if (!result.failed) {
        if (n === 0) fail(`${ignored}: it went on and succeeded`)
        if (!changes) fail(`${ignored}: it succeeded instead of rejecting with the reason`)
        if (calls > n + tailCalls) fail(`${ignored}: it made ${calls - n} more calls and succeeded`)
        return result
      }
      if (result.error !== reason) {
        fail(
          `${what}, aborted ${last}, failed with ${tell(result.error)}; expected the reason of the signal itself`,
        )
      }
      if (calls > n + tailCalls) fail(`${ignored}: it made ${calls - n} more calls before it rejected`)
      return { failed: true }
    },
  })
  return { calls }
}

/** What was given up is no image, or all of it. */
async function noHalfImage(kit: Kit, files: ImageFiles, content: SparseBytes): Promise<void> {
  if (kit.subject.format.probe === undefined) return
  const session = new Session(kit, files.fork(), {})
  const opened = await outcome(() => session.open())
  if (opened.failed) return
  const image = opened.value
  try {
    const whole = content.fork()
    whole.truncate(image.size)
    await sameRange(image, whole, 0, image.size, 'an image that was given up opens, but is not whole')
  } finally {
    await image.close()
  }
}

async function abortChange(
  kit: Kit,
  values: Readonly<Record<string, unknown>>,
  change: 'write' | 'writeZeroes' | 'discard' | 'flush',
): Promise<void> {
  const { files, content, size } = await kit.source(values, smallDisk).specimen()
  const before = content ?? new SparseBytes(size)
  const unit = await kit.unit(values)
  const start = Math.min(256, size)
  const length = Math.min(size - start, unit * 2)
  const after = before.fork()
  if (change === 'write') fill(after, start, length, 9)
  else if (change !== 'flush') after.zero(start, length)
  await everywhere(kit, change, async (stop) => {
    const fork = files.fork()
    await using(kit, fork, { writable: true, before: stop.hook }, async (image) => {
      if (change === 'flush') {
        fill(after, start, length, 9)
        await works('write', async () => image.write?.(start, pattern(start, length, 9)))
      }
      await stop.during(async (signal) => {
        if (change === 'write') await image.write?.(start, pattern(start, length, 9), { signal })
        else if (change === 'flush') await image.flush?.({ signal })
        else await image[change]?.(start, length, { signal })
      }, true)
      if (change === 'flush') await works('flush, after one was aborted', async () => image.flush?.())
    })
    await using(kit, fork, {}, async (image) => {
      const what = `after ${change} was aborted`
      await sameRange(image, before, 0, start, what)
      await sameRange(image, before, start + length, size - start - length, what)
      const now = new Uint8Array(length)
      await works('reading', () => image.read(start, now))
      const [old, fresh] = [before.slice(start, length), after.slice(start, length)]
      const wrong = now.findIndex((byte, i) => {
        const kept = change !== 'flush' && byte === old[i]
        return !kept && byte !== fresh[i]
      })
      check(
        wrong < 0,
        `${what}: guest offset ${start + wrong} holds neither what was there before nor what was written`,
      )
    })
  })
}
