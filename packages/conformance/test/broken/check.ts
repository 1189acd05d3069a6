import type { CheckOptions, CheckResult, Driver, Format, Storage, WritableStorage } from '@img/core'
import { toy } from '../toy/format.js'
import { type Broken, withDriver } from './support.js'

const nothing: CheckResult = { checkErrors: 0, corruptions: 0, leaks: 0 }

type Check = (options: CheckOptions, storage: Storage, driver: Driver) => CheckResult | Promise<CheckResult>

/** The toy format with a check. */
function withCheck(check: Check): Format {
  return withDriver(
    (driver, storage): Partial<Driver> => ({
      async check(options) {
        const result = await check(options, storage, driver)
        return options.repair ? { corruptionsFixed: 0, leaksFixed: 0, ...result } : result
      },
    }),
    toy,
  )
}

/** Faults of checking and repairing. */
export const checkFaults: readonly Broken[] = [
  {
    what: 'finds leaks where there are none',
    format: withCheck(({ onFinding }) => {
      onFinding?.({ kind: 'leak', message: 'cluster 1 is leaked' })
      return { ...nothing, leaks: 1 }
    }),
    fault: /a new image: 0 corruptions, 1 leaks, 0 errors are found/,
  },
  {
    what: 'counts what it does not tell of',
    format: withCheck(() => ({ ...nothing, leaks: 1 })),
    fault: /check tells of 0 findings and counts 1/,
  },
  {
    what: 'says that it repaired where it was only to look',
    format: withCheck(({ onFinding, repair }) => {
      if (repair) return nothing
      onFinding?.({ kind: 'leak', message: 'cluster 1 is leaked', fixed: true })
      return { ...nothing, leaks: 1 }
    }),
    fault: /check says that it repaired something/,
  },
  {
    what: 'repairs where it was only to tell what it would do',
    format: withCheck(async ({ dryRun }, storage) => {
      if (dryRun) await (storage as WritableStorage).write(storage.size, new Uint8Array(512))
      return nothing
    }),
    fault: /write at \d+ of image of the test, which was opened to be read only/,
  },
  {
    what: 'changes an image that is open for repair, only by looking',
    format: withCheck(async ({ dryRun }, storage) => {
      const result = await Promise.resolve(storage.write)
      if (dryRun) await result?.call(storage, storage.size, new Uint8Array(512)).catch(() => undefined)
      return nothing
    }),
    fault: /checking changed the image|opened to be read only/,
  },
  {
    what: 'loses data in a repair',
    format: withCheck(async ({ repair, dryRun }, storage, { map, size }) => {
      for (let at = 0; repair && !dryRun && at < size; ) {
        const { length, ...run } = await map.lookup(at, size - at)
        at += length
        if (run.kind !== 'data') continue
        await (storage as WritableStorage).write(run.hostOffset, new Uint8Array(length))
      }
      return nothing
    }),
    fault: /repaired \(leaks\): (the disk|snapshot \d+) holds something else/,
  },
  {
    what: 'does another thing than it told it would',
    format: withCheck(({ repair, dryRun, onFinding }) => {
      if (!repair || dryRun) return nothing
      onFinding?.({ kind: 'leak', message: 'cluster 1 is leaked', fixed: true })
      return { ...nothing, leaksFixed: 1 }
    }),
    fault: /was told as/,
  },
  {
    what: 'leaves what it says it repaired',
    format: withCheck(({ repair, onFinding }) => {
      onFinding?.({ kind: 'leak', message: 'cluster 1 is leaked', ...(repair && { fixed: true }) })
      return repair ? { ...nothing, leaksFixed: 1 } : { ...nothing, leaks: 1 }
    }),
    fault: /are found again, told were/,
  },
]
