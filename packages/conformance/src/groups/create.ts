import {
  convertStream,
  createImage,
  createWriter,
  ImageError,
  type OptionSpec,
  type StreamPiece,
} from '@img/core'
import { sameContent } from '../compare.js'
import { fill, mixedDisk, smallDisk } from '../content.js'
import { ConformanceError, check, fail, isRefusal, onlyImageError, outcome, tell, works } from '../fault.js'
import { ImageFiles } from '../image-files.js'
import { type Kit, nameOf, type Values } from '../kit.js'
import type { It } from '../runner.js'
import { Session, using } from '../session.js'
import { SparseBytes } from '../sparse-bytes.js'
import { walk } from './extents.js'

/** Sizes that a format may refuse as too large for it. */
const large = 2 ** 31

/** Making images: every size, every value of every option, compressed, and of a size that only the end tells. */
export function create(kit: Kit, it: It): void {
  const { create, createOptions = {} } = kit.subject.format
  kit.variants.forEach((values, i) => {
    it(`makes images of every size with ${nameOf(values)}`, async () => {
      for (const size of await sizesOf(kit, values, i === 0)) await makeOfSize(kit, values, size)
    })

    it(`makes empty images with ${nameOf(values)}`, async () => {
      const { size } = smallDisk(await kit.unit(values))
      const files = new ImageFiles()
      const session = new Session(kit, files, { writable: true })
      await works('making an empty image', () =>
        createImage(kit.format, session.main, { size, options: values, ...session.leave }),
      )
      await readBack(kit, files, new SparseBytes(await kit.sizeOf(files, size, values)), 'an empty image')
    })

    it(`makes compressed images with ${nameOf(values)}, or says that it cannot`, async () => {
      const content = mixedDisk(await kit.unit(values))
      const made = await outcomeOfMaking(() => kit.make(content, { values, compress: true }))
      if (made instanceof ImageError) {
        if (isRefusal(made, values === kit.variants[0])) return
        fail(`making a compressed image failed with ${tell(made)}`, made)
      }
      await readBack(kit, made, content, 'a compressed image')
    })

    it(`makes images whose size is known only at the end with ${nameOf(values)}, or says that it cannot`, async () => {
      const content = mixedDisk(await kit.unit(values))
      const files = new ImageFiles()
      const session = new Session(kit, files, { writable: true })
      const started = await outcome(() =>
        createWriter(kit.format, session.main, {
          size: undefined,
          options: values,
          ...session.leave,
        }),
      )
      if (started.failed) {
        onlyImageError('starting an image of unknown size', started.error)
        if (started.error.code === 'IMG_UNSUPPORTED') return
        fail(`starting an image of unknown size failed with ${tell(started.error)}`, started.error)
      }
      const writer = started.value
      await works('writing an image of unknown size', () =>
        convertStream({ pieces: () => piecesOf(content), finalSize: () => content.size }, writer),
      )
      await works('closing the writer', async () => writer.close?.())
      content.truncate(await kit.sizeOf(files, content.size, values))
      await readBack(kit, files, content, 'an image of unknown size')
    })
  })

  for (const [name, spec] of Object.entries(createOptions)) {
    const choices = choicesOf(spec)
    // A format that only packs disks is given them some other way.
    if (create === undefined || choices.length === 0) continue
    it(`makes images with every ${name}`, async () => {
      for (const choice of choices) await makeWith(kit, name, spec, choice)
    })
  }
}

async function makeOfSize(kit: Kit, values: Values, size: number): Promise<void> {
  const content = new SparseBytes(size)
  const spots = [0, 2 ** 31 - 512, 2 ** 32 - 512, 2 ** 32, size - 512]
  for (const spot of spots) {
    if (spot >= 0 && spot + 512 <= size) fill(content, spot, Math.min(1024, size - spot), 21)
  }
  const made = await outcomeOfMaking(() => kit.make(content, { values }))
  if (made instanceof ImageError) {
    const mayRefuse = size >= large || size === 0
    if (mayRefuse && ['IMG_UNSUPPORTED_SIZE', 'IMG_UNSUPPORTED', 'IMG_BAD_OPTION'].includes(made.code)) return
    fail(`making an image of ${size} bytes failed with ${tell(made)}`, made)
  }
  const what = `an image of ${size} bytes`
  const actual = await using(kit, made.fork(), { chain: false }, async (image) => image.size)
  check(actual === content.size, `${what} opens as a disk of ${actual} bytes, expected ${content.size}`)
  await readBack(kit, made, content, what)
}

async function makeWith(kit: Kit, name: string, spec: OptionSpec, choice: unknown): Promise<void> {
  const values = { ...kit.subject.options?.[0], ...kit.subject.needs?.[name], [name]: choice }
  const what = `${name}=${String(choice)}`
  const unit = await outcomeOfMaking(() => kit.unit(values))
  if (unit instanceof ImageError) return assertMayRefuse(unit, spec, choice, what)
  const content = smallDisk(unit)
  const files = await outcomeOfMaking(() => kit.make(content, { values }))
  if (files instanceof ImageError) return assertMayRefuse(files, spec, choice, what)
  await readBack(kit, files, content, `an image made with ${what}`)
  const text = typeof choice === 'boolean' ? (choice ? 'on' : 'off') : String(choice)
  if (text === choice) return
  const again = await kit.make(smallDisk(unit), { values: { ...values, [name]: text } })
  await readBack(kit, again, content, `an image made with ${name} given as the text ${text}`)
}

/** A value may need what it was not given, but the default needs nothing. */
function assertMayRefuse(error: ImageError, spec: OptionSpec, choice: unknown, what: string): void {
  const may = ['IMG_BAD_OPTION', 'IMG_UNSUPPORTED', 'IMG_UNSUPPORTED_SIZE'].includes(error.code)
  if (!may || choice === spec.default) fail(`making an image with ${what} failed with ${tell(error)}`, error)
}

/** The ImageError with which making an image failed, if it did. */
async function outcomeOfMaking<T>(action: () => Promise<T>): Promise<T | ImageError> {
  try {
    return await action()
  } catch (error) {
    if (error instanceof ConformanceError && ImageError.is(error.cause)) return error.cause
    throw error
  }
}

/** Demands that an image reads as it was written, opened in every way. */
async function readBack(kit: Kit, files: ImageFiles, content: SparseBytes, what: string): Promise<void> {
  await using(kit, files.fork(), {}, async (image) => {
    await sameContent(image, content, what)
    if (image.size <= large) await walk(image, 0, image.size, true)
    await works(`${what}: info`, () => image.info())
  })
}

async function sizesOf(kit: Kit, values: Values, all: boolean): Promise<readonly number[]> {
  if (kit.subject.sizes) return kit.subject.sizes
  const unit = await kit.unit(values)
  const near = [0, 512, unit - 512, unit, unit + 512, unit * 7 + 1536]
  return all ? [...near, 2 ** 32 + unit * 3 + 512] : near
}

/** Values worth trying: all where they are few, else the limits and some between. */
function choicesOf(spec: OptionSpec): readonly unknown[] {
  switch (spec.kind) {
    case 'bool':
      return [false, true]
    case 'oneOf':
      return [...spec.values, ...Object.keys(spec.aliases ?? {})]
    case 'string':
    case 'files':
      return []
    default: {
      const { min = 0, max = Number.MAX_SAFE_INTEGER, default: usual } = spec
      const some = [usual, spec.min, spec.max, 1, 2, 8, 512, 4096, 65536, 1024 * 1024]
      return [...new Set(some)].filter((value) => value !== undefined && value >= min && value <= max)
    }
  }
}

async function* piecesOf(content: SparseBytes): AsyncGenerator<StreamPiece> {
  const step = 10_000
  for (const run of content.runs()) {
    if (!run.data) continue
    for (let at = run.offset; at < run.offset + run.length; at += step) {
      yield { offset: at, bytes: content.slice(at, Math.min(step, run.offset + run.length - at)) }
    }
  }
}
