import {
  type DiskImage,
  type Format,
  ImageError,
  maxChainDepth,
  type OpenOptions,
  openImage,
  type Reference,
  type ReferenceResolver,
  type Storage,
} from '@img/core'
import { protocolOf } from '@img/node'
import { type DoctorReport, find, type ReferenceReport } from './report.js'

/** What opening the layers needs. */
export interface LayerOptions {
  readonly open: OpenOptions
  /** The gate. */
  readonly gate: ReferenceResolver
}

/** Opens an image to look at it: nothing beneath it is opened, and damage is no reason to refuse. */
function look(
  storage: Storage,
  format: Format | string | undefined,
  report: DoctorReport,
  { open, gate }: LayerOptions,
): Promise<DiskImage> {
  return openImage(storage, {
    ...open,
    format,
    repair: true,
    chain: false,
    references: recorded(gate, report),
    onWarning: (message) => find(report, { level: 'note', id: 'warning', message }),
  })
}

/**
 * Goes down the chain from an image, through the gate, and tells of every file that is named on the way. `visit` is called with
 * each image that could be opened, from the top; they are closed at the end.
 * @throws what opening the top image does.
 */
export async function walkLayers(
  top: Storage,
  format: Format,
  report: DoctorReport,
  options: LayerOptions,
  visit: (image: DiskImage, depth: number) => Promise<void>,
): Promise<void> {
  const opened: DiskImage[] = [await look(top, format, report, options)]
  try {
    for (let depth = 0; ; depth++) {
      const image = opened[depth] as DiskImage
      await visit(image, depth)
      const { backing } = image.driver
      if (backing === undefined) return
      if (depth + 1 >= maxChainDepth) {
        find(report, {
          level: 'problem',
          id: 'chain-too-long',
          message: `the backing chain is longer than ${maxChainDepth} images`,
        })
        return
      }
      const below = await openBelow(image, backing, opened, report, options)
      if (below === undefined) return
      opened.push(below)
      await image.driver.checkBacking?.(below)
    }
  } catch (error) {
    if (!ImageError.is(error)) throw error
    tell(report, error)
  } finally {
    for (const image of opened) await image.close()
  }
}

async function openBelow(
  image: DiskImage,
  backing: Reference,
  above: readonly DiskImage[],
  report: DoctorReport,
  options: LayerOptions,
): Promise<DiskImage | undefined> {
  if (backing.kind === 'backing' && backing.format === undefined && backing.signatures === undefined) {
    find(report, {
      level: 'risk',
      id: 'backing-format-guessed',
      message: `${image.storage.label} does not record the format of its backing file ${JSON.stringify(backing.name)}: it is guessed, and what a guest writes into a raw one decides the guess`,
      hint: `record it: img rebase -u -b ${JSON.stringify(backing.name)} -F FORMAT ${image.storage.label}`,
    })
  }
  try {
    const { storage, format } = await recorded(options.gate, report).open(backing, image.storage, {
      writable: false,
    })
    const { identity } = storage
    if (identity !== undefined && above.some((each) => each.storage.identity === identity)) {
      await storage.close()
      find(report, {
        level: 'problem',
        id: 'chain-loop',
        message: `${storage.label} is its own backing file: the chain goes in a circle`,
      })
      return undefined
    }
    return await look(storage, format ?? knownFormat(backing.format), report, {
      ...options,
      open: { ...options.open, options: {} },
    })
  } catch (error) {
    if (!ImageError.is(error)) throw error
    tell(report, error)
    return undefined
  }
}

/** Node names of QEMU's file drivers, which old versions recorded for raw files. */
function knownFormat(format: string | undefined): string | undefined {
  return format === 'file' || format === 'host_device' ? 'raw' : format
}

/** A gate that writes down what it is asked for, and what became of it. */
export function recorded(gate: ReferenceResolver, report: DoctorReport): ReferenceResolver {
  return {
    async open(reference, from, options) {
      const { kind, name, format } = reference
      const guessed = kind === 'backing' && format === undefined
      const entry = {
        kind,
        name,
        from: from.label,
        format,
        formatFrom: format !== undefined ? 'recorded' : guessed ? 'guessed' : undefined,
      } as const
      const add = (state: ReferenceReport['state'], path?: string): void => {
        const known = report.references.some((each) => each.name === name && each.from === from.label)
        if (!known) report.references.push({ ...entry, state, path })
      }
      try {
        const opened = await gate.open(reference, from, options)
        add('found', opened.storage.label)
        if (isAbsolute(name)) {
          find(report, {
            level: 'note',
            id: 'reference-absolute',
            message: `${from.label} names ${name} by its absolute path: moved together, they lose each other`,
          })
        }
        return opened
      } catch (error) {
        const code = ImageError.is(error) ? error.code : undefined
        add(
          code === 'IMG_REFERENCE_DENIED'
            ? 'not-opened'
            : code === 'IMG_REFERENCE_MISSING'
              ? 'missing'
              : 'unreadable',
        )
        if (ImageError.is(error)) tell(report, error, reference)
        throw error
      }
    },
  }
}

function isAbsolute(name: string): boolean {
  return /^([/\\]|[a-z]:[/\\])/i.test(name)
}

/** Puts down an error of opening or reading. */
export function tell(report: DoctorReport, error: ImageError, reference?: Reference): void {
  const { code, message, hint, offset } = error
  if (code === 'IMG_REFERENCE_DENIED') {
    const protocol = reference !== undefined && protocolOf(reference.name) !== undefined
    // Told already, where it was asked for.
    if (reference === undefined && report.references.some(({ state }) => state === 'not-opened')) return
    find(report, { level: 'risk', id: protocol ? 'reference-protocol' : 'reference-outside', message, hint })
    return
  }
  if (code === 'IMG_REFERENCE_MISSING') {
    if (reference === undefined && report.references.some(({ state }) => state === 'missing')) return
    find(report, { level: 'problem', id: 'reference-missing', message, hint })
    return
  }
  if (code === 'IMG_SECRET_MISSING') {
    report.encrypted = true
    find(report, {
      level: 'note',
      id: 'encrypted',
      message: 'the disk is encrypted: its content was not looked at',
      hint: 'give the passphrase with --passphrase-file, --passphrase-fd or IMG_PASSPHRASE',
    })
    return
  }
  // There is a choice to be made, of a disk of several.
  if (code === 'IMG_BAD_OPTION') {
    find(report, { level: 'note', id: 'option-needed', message, hint })
    return
  }
  if (code === 'IMG_CHAIN_LOOP' && report.findings.some(({ id }) => id === 'chain-loop')) return
  find(report, { level: 'problem', id: idOf(code), message, hint, offset })
}

function idOf(code: string): string {
  return code.replace(/^IMG_/, '').toLowerCase().replaceAll('_', '-')
}
