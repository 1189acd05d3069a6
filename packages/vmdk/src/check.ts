import { type CheckOptions, type CheckResult, ImageError, isPromise } from '@img/core'
import { checkSparse } from './check-sparse.js'
import { ClosedExtent, FlatExtent } from './extent.js'
import { Findings } from './findings.js'
import type { DiskExtent } from './open-extents.js'

/** What of a disk is checked, beside its extents. */
export interface CheckedDisk {
  readonly source: string
  readonly extents: readonly DiskExtent[]
  /** What is wrong with the parent. */
  readonly parentError: ImageError | undefined
  /** Why nothing can be told of it. */
  readonly parentUntold: ImageError | undefined
  /** Records the content id that the parent has now; absent where the disk cannot be written. */
  readonly adoptParent: (() => Promise<void>) | undefined
  /** Makes everything durable. */
  flush(): Promise<void>
}

/**
 * Checks a disk: of hosted sparse extents both copies of the grain tables, grains outside the file, inside the metadata or named
 * twice, and whether they were closed cleanly; of all others that each range can be found; and the content id of the parent.
 */
export async function checkDisk(disk: CheckedDisk, options: CheckOptions): Promise<CheckResult> {
  const findings = new Findings(options)
  const { parentError, parentUntold } = disk
  if (parentUntold) findings.add({ kind: 'error', message: `ERROR: ${parentUntold.message}` })
  if (parentError)
    findings.add({ kind: 'corruption', message: `ERROR: ${parentError.message}` }, disk.adoptParent)
  for (const part of disk.extents) {
    if (part.sparse && !part.sparse.extent.compressed) await checkSparse(part, findings, options)
    else await walk(part, findings, options)
  }
  if (await findings.mend()) await disk.flush()
  return findings.result()
}

/** Asks where everything lives; what cannot be told is a finding. */
async function walk({ extent, label }: DiskExtent, findings: Findings, options: CheckOptions): Promise<void> {
  // A file that is missing, or was cut, has one thing wrong with it, however large it should be.
  if (extent instanceof ClosedExtent) return tell(extent.error, findings)
  if (extent instanceof FlatExtent) {
    const missing = extent.start + extent.size - extent.storage.size
    if (missing > 0) {
      const message = `ERROR: ${label}: ends ${missing} bytes before the extent it holds does`
      findings.add({ kind: 'corruption', message, offset: extent.storage.size })
    }
    return
  }
  const step = extent.grainSize ?? extent.size
  const told = new Set<string>()
  for (let at = 0; at < extent.size; ) {
    options.signal?.throwIfAborted()
    const most = Math.min(extent.size - at, 2 ** 40)
    try {
      const run = extent.lookup(at, most, options)
      at += (isPromise(run) ? await run : run).length
    } catch (error) {
      if (!ImageError.is(error)) throw error
      if (!told.has(error.message)) tell(error, findings)
      told.add(error.message)
      at += Math.min(step - (at % step), extent.size - at)
    }
  }
}

function tell({ code, message, offset }: ImageError, findings: Findings): void {
  const untold = code === 'IMG_REFERENCE_DENIED' || code === 'IMG_UNSUPPORTED'
  findings.add({ kind: untold ? 'error' : 'corruption', message: `ERROR: ${message}`, offset })
}
