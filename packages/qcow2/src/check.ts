import {
  type CheckOptions,
  type CheckResult,
  isWritable,
  type Storage,
  viewOf,
  type WritableStorage,
} from '@img/core'
import { CheckedFile } from './check-file.js'
import { CheckReport, CheckStopped } from './check-report.js'
import { runCheck } from './check-run.js'
import { DryRunStorage } from './dry-run.js'
import { qcow2Error } from './errors.js'
import { Incompatible, writeFeatures } from './features.js'
import type { Header } from './header.js'

/** What a check came to. */
export interface Checked {
  readonly result: CheckResult
  /** The header as it stands in the file now. */
  readonly header: Header
  /** Something may have been written to the image. */
  readonly repaired: boolean
}

/**
 * Checks the metadata of an image and repairs it where asked, as `qemu-img check` does: the same findings in the same
 * order, the same numbers. Nothing that clusters hold is changed; what is given back is not discarded. Memory is bounded
 * by the clusters in use.
 *
 * After a repair everything is checked once more: the numbers tell what is there still.
 * @throws {ImageError} IMG_READ_ONLY, and what writing the repairs throws.
 */
export async function checkImage(storage: Storage, header: Header, options: CheckOptions): Promise<Checked> {
  const { repair, dryRun = false, onFinding, signal } = options
  const io = { signal }
  if (repair === undefined) {
    const report = new CheckReport(onFinding)
    const done = await stoppable(() =>
      runCheck(new CheckedFile(storage, report, io), header, report, undefined, io),
    )
    return { result: { ...report.result(false), ...stopped(done) }, header, repaired: false }
  }
  const target = dryRun ? new DryRunStorage(storage) : writable(storage)
  const first = new CheckReport(onFinding)
  const file = new CheckedFile(target, first, io)
  const repairs = { storage: target, all: repair === 'all' }
  let now = header
  const done = await stoppable(async () => {
    now = await runCheck(file, header, first, repairs, io)
    await target.flush(io)
    if (first.counts.checkErrors === 0 && first.counts.corruptions === 0)
      now = await markSound(target, now, io)
  })
  const { corruptionsFixed, leaksFixed } = first.counts
  const repaired = !dryRun
  if (!done || (corruptionsFixed === 0 && leaksFixed === 0)) {
    return { result: { ...first.result(true), ...stopped(done) }, header: now, repaired }
  }
  const second = new CheckReport(onFinding)
  const again = await stoppable(() =>
    runCheck(new CheckedFile(target, second, io), now, second, undefined, io),
  )
  const result = { ...second.result(true), corruptionsFixed, leaksFixed, ...stopped(again) }
  return { result, header: now, repaired }
}

function stopped(done: boolean): Pick<CheckResult, 'stopped'> {
  return done ? {} : { stopped: true }
}

/** Runs until the end, or until a check cannot go on: then it has been told of. */
async function stoppable(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run()
    return true
  } catch (error) {
    if (error instanceof CheckStopped) return false
    throw error
  }
}

/** Clears the dirty and the corrupt bit: the image was found sound, or was made so. */
async function markSound(
  storage: WritableStorage,
  header: Header,
  io: { readonly signal?: AbortSignal | undefined },
): Promise<Header> {
  const { incompatibleFeatures } = header
  const marks: number[] = [Incompatible.dirty, Incompatible.corrupt]
  if (!marks.some((bit) => incompatibleFeatures.has(bit))) return header
  const kept = new Set([...incompatibleFeatures].filter((bit) => !marks.includes(bit)))
  const bytes = new Uint8Array(8)
  writeFeatures(viewOf(bytes), 0, kept)
  await storage.write(72, bytes, io)
  await storage.flush(io)
  return { ...header, incompatibleFeatures: kept }
}

function writable(storage: Storage): WritableStorage {
  if (isWritable(storage)) return storage
  throw qcow2Error('IMG_READ_ONLY', 'it cannot be written', storage.label)
}
