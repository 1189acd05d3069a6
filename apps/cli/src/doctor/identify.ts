import {
  type Format,
  ImageError,
  type Magic,
  matchesMagic,
  officialFormats,
  probeFormat,
  type Storage,
} from '@img/core'
import type { Context } from '../context.js'
import { explainPlugin } from '../open.js'
import { contentOf } from './content.js'
import { type DoctorReport, find } from './report.js'
import { foreignSignatures } from './signatures.js'

/** Bytes looked at from either end. */
const headBytes = 68 * 1024
const tailBytes = 512

/** The two ends of a file. */
interface Ends {
  readonly head: Uint8Array
  readonly tail: Uint8Array
}

/**
 * Tells what a file is: by `-f`, by its bytes, or, where neither says anything, a raw disk.
 * @returns the format to open it as; undefined where no plugin reads it.
 */
export async function identify(
  storage: Storage,
  named: Format | undefined,
  report: DoctorReport,
  context: Context,
): Promise<Format | undefined> {
  const ends = await readEnds(storage)
  const found = named ?? (await probed(storage, ends, report, context))
  if (found !== undefined) {
    report.format = found.name
    report.title = found.title
    const magic = found.magic.find((each) => matchesMagic(each, ends.head, ends.tail))
    report.signature = magic && { offset: magic.offset, hex: magic.hex }
    report.recognised ??= named !== undefined ? 'named' : magic ? 'signature' : 'content'
    await tellPlugin(found.name, report, context)
  }
  return found
}

async function readEnds(storage: Storage): Promise<Ends> {
  const head = new Uint8Array(Math.min(headBytes, storage.size))
  const tail = new Uint8Array(Math.min(tailBytes, storage.size))
  if (head.length > 0) await storage.read(0, head)
  if (tail.length > 0) await storage.read(storage.size - tail.length, tail)
  return { head, tail }
}

async function probed(
  storage: Storage,
  ends: Ends,
  report: DoctorReport,
  context: Context,
): Promise<Format | undefined> {
  const registry = await context.registry()
  try {
    const format = await probeFormat(storage, { registry })
    if (format !== undefined) return format
  } catch (error) {
    if (!ImageError.is(error)) throw error
    await tellUnreadable(error, ends, report, context)
    return undefined
  }
  return guessed(ends, report, context)
}

/** A format that is known, but cannot be used: its plugin is missing or broken, or there are two that fit. */
async function tellUnreadable(
  error: ImageError,
  { head, tail }: Ends,
  report: DoctorReport,
  context: Context,
): Promise<void> {
  const { message, hint } = (await explainPlugin(error, context)) as ImageError
  if (error.code === 'IMG_AMBIGUOUS_FORMAT') {
    find(report, { level: 'problem', id: 'two-formats', message, hint })
    return
  }
  const has = (magic: Magic): boolean => matchesMagic(magic, head, tail)
  const official = officialFormats.find(({ name }) => name === error.format)
  const missing = error.code === 'IMG_PLUGIN_MISSING'
  report.format = error.format
  report.install = missing ? official?.package : undefined
  report.recognised = 'signature'
  const magic = official?.magic?.find(has)
  report.signature = magic && { offset: magic.offset, hex: magic.hex }
  find(report, { level: 'problem', id: missing ? 'plugin-missing' : 'plugin-broken', message, hint })
}

/** No plugin knows the file. */
async function guessed(ends: Ends, report: DoctorReport, context: Context): Promise<Format | undefined> {
  const { head, tail } = ends
  const foreign = foreignSignatures.find(({ at, hex }) => matchesMagic({ offset: at, hex }, head, tail))
  if (foreign !== undefined) {
    const { name, at, hex, hint } = foreign
    report.format = name
    report.recognised = 'signature'
    report.signature = { offset: at, hex }
    find(report, {
      level: 'problem',
      id: 'no-plugin',
      message: `this is ${name}, which no plugin here reads`,
      hint: hint ?? 'plugins are packages with the keyword img-format; load one with --plugin NAME',
    })
    return undefined
  }
  if (report.fileSize === 0) {
    find(report, { level: 'risk', id: 'empty-file', message: 'the file is empty', hint: 'copy it again' })
    return undefined
  }
  report.recognised = 'nothing'
  const promised = await formatByName(report.file, context)
  if (promised !== undefined) {
    find(report, {
      level: 'problem',
      id: 'header-missing',
      message: `the name says ${promised}, but the file has no such header: it was overwritten, or is something else`,
      hint: `if its header is damaged, -f ${promised} tells more`,
    })
  }
  const looksLikeDisk = (head[510] === 0x55 && head[511] === 0xaa) || contentOf(head).holds !== undefined
  find(report, {
    level: looksLikeDisk ? 'note' : 'risk',
    id: 'raw-guessed',
    message: looksLikeDisk
      ? 'no format recognises this file; what is on it looks like a raw disk'
      : 'no format recognises this file: a raw disk, or no disk at all',
    hint: 'if it is a raw disk, say so with -f raw: a guest could write the header of another format there',
  })
  try {
    return await (await context.registry()).load('raw')
  } catch (error) {
    if (!ImageError.is(error)) throw error
    const { message, hint } = (await explainPlugin(error, context)) as ImageError
    report.install = officialFormats.find(({ name }) => name === 'raw')?.package
    find(report, { level: 'problem', id: 'plugin-missing', message, hint })
    return undefined
  }
}

/** The format whose files are named so; undefined where that is raw, or none. */
async function formatByName(file: string, context: Context): Promise<string | undefined> {
  const { formats, unloaded } = await context.registry()
  const name = file.toLowerCase()
  const fitting = [...formats, ...unloaded].find(
    (format) => format.name !== 'raw' && format.extensions?.some((extension) => name.endsWith(extension)),
  )
  return fitting?.name
}

async function tellPlugin(format: string, report: DoctorReport, context: Context): Promise<void> {
  const plugins = await context.plugins()
  const plugin = plugins.find(({ formats }) => formats.some(({ name }) => name === format))
  if (plugin === undefined) return
  const { name, version, origin, path } = plugin
  report.plugin = { name, version, origin, path }
}
