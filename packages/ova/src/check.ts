import {
  type CheckFinding,
  type CheckOptions,
  type CheckResult,
  ImageError,
  type OpenContext,
} from '@img/core'
import { openDiskFile } from './disk-file.js'
import { ovaError } from './errors.js'
import { openInside } from './inside.js'
import { faultsOf, type Package, verifyNamed } from './package.js'

/**
 * Checks a package: descriptor, manifest and files against each other, each file against its digest, and each disk as its own
 * format does. Nothing can be repaired.
 * @throws {ImageError} IMG_UNSUPPORTED where repair is asked for.
 */
export async function checkPackage(
  opened: Package,
  context: OpenContext,
  options: CheckOptions,
): Promise<CheckResult> {
  if (options.repair !== undefined && options.dryRun !== true) {
    throw ovaError('IMG_UNSUPPORTED', 'packages cannot be repaired', opened.label)
  }
  const counts = { checkErrors: 0, corruptions: 0, leaks: 0 }
  const told = new Set<string>()
  const found = (finding: CheckFinding): void => {
    // What is wrong with a file shows in the manifest, in the descriptor, and in the disk.
    if (told.has(finding.message)) return
    told.add(finding.message)
    if (finding.kind === 'error') counts.checkErrors++
    else if (finding.kind === 'leak') counts.leaks++
    else counts.corruptions++
    options.onFinding?.(finding)
  }
  const attempt = async (job: () => Promise<void>): Promise<void> => {
    try {
      await job()
    } catch (error) {
      context.signal?.throwIfAborted()
      if (!ImageError.is(error)) throw error
      found({ kind: error.code === 'IMG_CORRUPT' ? 'corruption' : kindOf(error), message: error.message })
    }
  }
  const faults = await faultsOf(opened)
  for (const { message } of faults) found({ kind: 'corruption', message })
  const { files, manifest, descriptor } = opened
  for (const name of manifest?.keys() ?? []) {
    if (name === files.descriptor || files.names?.includes(name) === false) continue
    await attempt(() => verifyNamed(opened, name))
  }
  for (const disk of descriptor.disks) {
    const { file } = disk
    if (file === undefined) continue
    await attempt(async () => {
      const storage = await openDiskFile(opened, { ...disk, file }, { signal: context.signal, verify: false })
      await using image = await openInside(storage, disk, opened.label, { ...context, inspect: false })
      const onFinding = (finding: CheckFinding): void =>
        found({ ...finding, message: `${file.href}: ${finding.message}`, fixed: false })
      await image.check?.({ signal: context.signal, onFinding })
    })
  }
  return counts
}

/** What is missing or cannot be understood is lost; what this tool cannot do is only not checked. */
function kindOf({ code }: ImageError): CheckFinding['kind'] {
  return code === 'IMG_TRUNCATED' || code === 'IMG_REFERENCE_MISSING' ? 'corruption' : 'error'
}
