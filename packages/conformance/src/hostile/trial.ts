import { watchingAllocations } from '../allocations.js'
import { ConformanceError, fail, onlyImageError, outcome, works } from '../fault.js'
import type { ImageFiles } from '../image-files.js'
import type { Kit, Specimen } from '../kit.js'
import { Meter, type Use } from '../meter.js'
import { Session, using } from '../session.js'
import { type Before, explore } from './explore.js'

const unlimited: Use = {
  calls: Number.MAX_SAFE_INTEGER,
  bytes: Number.MAX_SAFE_INTEGER,
  lookups: Number.MAX_SAFE_INTEGER,
}

/** A specimen to be damaged, and what opening and reading a damaged copy of it may take. */
export class Trial {
  readonly specimen: Specimen
  /** Offsets of bytes of the file that are no guest data. */
  readonly metadata: readonly number[]
  readonly #kit: Kit
  readonly #before: Before
  readonly #limit: Use
  readonly #allocation: number
  #turn = 0

  private constructor(kit: Kit, before: Before, metadata: readonly number[], intact: Use) {
    const { budget = {} } = kit.subject
    const { main } = before.specimen.files
    this.specimen = before.specimen
    this.metadata = metadata
    this.#kit = kit
    this.#before = before
    this.#limit = {
      calls: budget.calls ?? 1000 + 100 * intact.calls,
      bytes: budget.bytes ?? 8 * 1024 * 1024 + 100 * intact.bytes,
      lookups: 100_000 + 100 * intact.lookups,
    }
    this.#allocation = budget.allocation ?? 16 * 1024 * 1024 + 4 * main.size
  }

  /** Measures what the undamaged image takes. */
  static async of(kit: Kit, specimen: Specimen): Promise<Trial> {
    const { metadata, lastData } = await dissect(kit, specimen)
    const before = { specimen, lastData }
    const first = new Trial(kit, before, metadata, unlimited)
    const intact = new Meter(unlimited)
    await first.#read(specimen.files.fork(), intact, false)
    return new Trial(kit, before, metadata, intact)
  }

  /** Opens and reads a damaged copy as far as it goes; every fifth is also opened for writing. */
  async run(damaged: ImageFiles, how: string, exact: boolean): Promise<void> {
    const probed = this.#kit.subject.format.probe !== undefined
    await saying(how, () => this.#read(damaged, new Meter(this.#limit), exact && probed))
    if (++this.#turn % 5 !== 0) return
    await saying(`${how}, then opened for writing`, () => this.#write(damaged, new Meter(this.#limit)))
  }

  /** The same with some bytes of the file changed. */
  async runChanged(
    at: number,
    length: number,
    change: (bytes: Uint8Array) => void,
    how: string,
  ): Promise<void> {
    const damaged = this.specimen.files.fork()
    const bytes = damaged.main.slice(at, length)
    change(bytes)
    damaged.main.write(at, bytes.subarray(0, Math.min(length, damaged.main.size - at)))
    await this.run(damaged, how, false)
  }

  /** Demands that a file is refused, within the limits. */
  async refuses(files: ImageFiles, name: string): Promise<void> {
    const meter = new Meter(this.#limit)
    const session = new Session(this.#kit, files, { before: (call) => meter.call(call) })
    const opened = await outcome(() => this.#metered(meter, () => session.open()))
    if (!opened.failed) fail(`${name} opens as an image of this format`)
    onlyImageError(`opening ${name}`, opened.error)
    session.assertClosed()
  }

  async #read(files: ImageFiles, meter: Meter, exact: boolean): Promise<void> {
    const { openOptions } = this.specimen
    const session = new Session(this.#kit, files, { openOptions, before: (call) => meter.call(call) })
    await this.#metered(meter, async () => {
      const opened = await outcome(() => session.open())
      if (opened.failed) return onlyImageError('opening it', opened.error)
      const image = opened.value
      try {
        await explore(image, this.#before, exact)
      } finally {
        await works('closing it', () => image.close())
      }
    })
    session.assertClosed()
  }

  async #write(files: ImageFiles, meter: Meter): Promise<void> {
    const { openOptions, size } = this.specimen
    const before = (call: Parameters<Meter['call']>[0]): Promise<void> | undefined => meter.call(call)
    const session = new Session(this.#kit, files, { openOptions, writable: true, before })
    await this.#metered(meter, async () => {
      const opened = await outcome(() => session.open())
      if (opened.failed) return onlyImageError('opening it', opened.error)
      const image = opened.value
      const bytes = new Uint8Array(Math.min(700, image.size)).fill(0x77)
      const changes: readonly (readonly [string, () => unknown])[] = [
        ['writing at the start', () => image.write?.(0, bytes)],
        ['writing at the end', () => image.write?.(Math.min(size, image.size) - bytes.length, bytes)],
        ['flushing', () => image.flush?.()],
        ['closing', () => image.close()],
      ]
      for (const [what, change] of changes) {
        const result = await outcome(change)
        if (result.failed) onlyImageError(what, result.error)
      }
    })
    session.assertLawful()
  }

  async #metered<T>(meter: Meter, action: () => Promise<T>): Promise<T> {
    const { watch } = this.#kit
    watch.lookup = () => meter.lookup()
    try {
      return await watchingAllocations(this.#allocation, () => meter.run(action))
    } finally {
      watch.lookup = undefined
    }
  }
}

/** Faults say how the image was damaged. */
async function saying(how: string, action: () => Promise<void>): Promise<void> {
  try {
    await action()
  } catch (error) {
    if (!(error instanceof ConformanceError)) throw error
    throw new ConformanceError(`${how}: ${error.message}`, error.cause)
  }
}

/** What of the file is guest data, and what is not. */
async function dissect(
  kit: Kit,
  { files, openOptions }: Specimen,
): Promise<{ readonly metadata: number[]; readonly lastData: number }> {
  const data: { readonly start: number; readonly end: number; readonly guest: number }[] = []
  await using(kit, files.fork(), { openOptions, chain: false }, async (image, session) => {
    for (let at = 0; at < image.size; ) {
      const run = await image.driver.map.lookup(at, image.size - at)
      const guest = at
      at += run.length
      if (run.storage !== session.main || run.hostOffset === undefined) continue
      const length = run.kind === 'compressed' ? run.hostLength : run.length
      data.push({ start: run.hostOffset, end: run.hostOffset + length, guest: guest + run.length - 1 })
    }
  })
  data.sort((a, b) => a.start - b.start)
  const random = kit.random('metadata')
  const bytes = files.main.slice(0, Math.min(files.main.size, 64 * 1024 * 1024))
  const metadata: number[] = []
  let next = 0
  for (let at = 0; at < bytes.length; at++) {
    while (at >= (data[next]?.end ?? Number.POSITIVE_INFINITY)) next++
    const range = data[next]
    if (range && at >= range.start) {
      at = range.end - 1
      continue
    }
    // Of the zeros between, some: most are padding.
    const telling = bytes[at] !== 0 || at < 512 || bytes[at - 1] !== 0 || random.chance(0.01)
    if (telling) metadata.push(at)
  }
  const lastData = Math.max(0, (data.at(-1)?.guest ?? 0) - 4095)
  return { metadata, lastData }
}
