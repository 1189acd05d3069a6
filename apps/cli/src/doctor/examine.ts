import {
  type DiskImage,
  type Format,
  type FormatRegistry,
  ImageError,
  type OpenOptions,
  openImage,
  type SecretSource,
  type Storage,
} from '@img/core'
import type { Context } from '../context.js'
import { openFailure } from '../errors.js'
import { references } from '../references.js'
import { isUrl, openSourceStorage } from '../source-storage.js'
import { examineContent } from './content.js'
import { examineMetadata, examineState, examineWeight } from './health.js'
import { identify } from './identify.js'
import { tell, walkLayers } from './layers.js'
import { type DoctorReport, find } from './report.js'

/** How a file is examined. */
export interface ExamineOptions {
  /** `-f`. */
  readonly format?: Format | undefined
  /** `-U`. */
  readonly shared: boolean
  /** False: metadata is not gone through. */
  readonly check: boolean
  /** `--open`, each as it was given. */
  readonly open: readonly string[]
  readonly secret: SecretSource
}

/**
 * Tells everything of a file that can be told without trusting it. Only the file itself is opened, and what the gate lets pass.
 * @throws {Failure} where the file cannot be looked at.
 */
export async function examine(
  file: string,
  options: ExamineOptions,
  context: Context,
): Promise<DoctorReport> {
  const { storage, inUse, lock } = await openToLook(file, options, context)
  const kind = isUrl(file) ? 'url' : (storage as { regular?: boolean }).regular === false ? 'device' : 'file'
  const report: DoctorReport = {
    file,
    kind,
    fileSize: storage.size,
    details: [],
    references: [],
    content: [],
    findings: [],
  }
  let format: Format | undefined
  try {
    report.hostSize = await storage.hostSize?.()
    if (inUse !== undefined) {
      find(report, {
        level: 'note',
        id: 'in-use',
        message: `another program has the file open: ${inUse}`,
        hint: 'what is told here may have changed by now; stop the virtual machine to be sure',
      })
    }
    format = await identify(storage, options.format, report, context)
  } finally {
    await storage.close()
  }
  if (format === undefined) return report
  const registry = await context.registry()
  const gate = references(context, { shared: inUse !== undefined || options.shared })
  const asked = await openOptionsOf(format, options, registry, context)
  format = asked.format
  const open: OpenOptions = { registry, secret: options.secret, options: asked.values }
  const again = (): Promise<Storage> => openSourceStorage(file, { lock })
  try {
    await walkLayers(await again(), asked.format, report, { open, gate }, async (image, depth) => {
      await examineState(image, report, depth, inUse !== undefined)
      // The tables of an image that is being written are never all of one moment.
      if (options.check && inUse === undefined) await examineMetadata(image, report)
    })
  } catch (error) {
    if (!ImageError.is(error)) throw error
    tell(report, error)
    return report
  }
  await examineDisk(again, { ...open, format, references: gate }, report)
  return report
}

/**
 * The open options of the image; of the only format for the content of disks that has them, where its own has not.
 * @throws {Failure} for an option that no format here has.
 */
async function openOptionsOf(
  format: Format,
  { format: named, open }: ExamineOptions,
  registry: FormatRegistry,
  context: Context,
): Promise<{ readonly format: Format; readonly values: Readonly<Record<string, unknown>> }> {
  if (open.length === 0) return { format, values: {} }
  const { checkOpenValues, formatOnDisk, parseOpenValues } = await import('../open-values.js')
  const values = parseOpenValues(open)
  const known = [...values.keys()].every((name) => Object.hasOwn(format.openOptions ?? {}, name))
  const chosen = known || named !== undefined ? format : await formatOnDisk(values.keys(), registry)
  return { format: chosen ?? format, values: checkOpenValues(chosen ?? format, values, context) }
}

/** Opens the image as any other verb would, and looks at the disk in it. */
async function examineDisk(
  again: () => Promise<Storage>,
  open: OpenOptions,
  report: DoctorReport,
): Promise<void> {
  let image: DiskImage | undefined
  try {
    image = await openImage(await again(), open)
    if (image.unreadable !== undefined) throw image.unreadable
    report.readable = true
    report.virtualSize = image.size
    await examineWeight(image, report)
    await examineContent(image, report, open.registry as NonNullable<OpenOptions['registry']>)
  } catch (error) {
    report.readable = false
    if (!ImageError.is(error)) throw error
    tell(report, error)
  } finally {
    await image?.close()
  }
}

/** The file, opened without keeping anybody out. */
async function openToLook(
  file: string,
  { shared }: ExamineOptions,
  context: Context,
): Promise<{ storage: Storage; inUse: string | undefined; lock: 'look' | 'shared' }> {
  try {
    if (shared)
      return { storage: await openSourceStorage(file, { lock: 'shared' }), inUse: undefined, lock: 'shared' }
    try {
      return { storage: await openSourceStorage(file, { lock: 'look' }), inUse: undefined, lock: 'look' }
    } catch (error) {
      if (!ImageError.is(error, 'IMG_LOCKED')) throw error
      const inUse = error.cause instanceof Error ? error.cause.message : error.message
      return { storage: await openSourceStorage(file, { lock: 'shared' }), inUse, lock: 'shared' }
    }
  } catch (error) {
    throw openFailure(file, error)
  } finally {
    await context.plugins()
  }
}
