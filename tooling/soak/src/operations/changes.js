import { same } from '../judge.js'
import { contentOf } from '../random.js'
import { fits, rangeOf } from './ranges.js'

/** What `write`, `zero` and `discard` make of the model. */
const effects = {
  write(subject, { offset, length, tag }) {
    subject.content.set(contentOf(length, tag), offset)
  },
  zero(subject, { offset, length }) {
    subject.content.fill(0, offset, offset + length)
  },
  discard(subject, { offset, length }) {
    const { start, end } = subject.whole(offset, length)
    if (start >= end) return
    // Version 2 cannot say zero: what is below shows again.
    if (subject.version === 2) subject.content.set(subject.below.subarray(start, end), start)
    else subject.content.fill(0, start, end)
  },
  flush() {},
  compact() {},
  check() {},
}

/** What has no range. */
const wholeImage = new Set(['flush', 'compact', 'check'])

/** The calls themselves. */
const calls = {
  write: (disk, { offset, length, tag }) => disk.write(offset, contentOf(length, tag)),
  zero: (disk, { offset, length, unmap }) => disk.writeZeroes(offset, length, { unmap }),
  discard: (disk, { offset, length }) => disk.discard(offset, length),
  flush: (disk) => disk.flush(),
  compact: (disk) => disk.compact(),
  async check(disk) {
    const { corruptions, leaks } = await disk.check()
    if (corruptions + leaks > 0) throw new Error(`check: ${corruptions} corruptions, ${leaks} leaks`)
  },
}

function single(name, weight, extra) {
  return {
    name,
    weight,
    plan: (subject, random) => ({ ...rangeOf(subject, random), ...extra(random) }),
    possible: fits,
    async run(subject, step) {
      await calls[name](await subject.open(), step)
      effects[name](subject, step)
    },
  }
}

export const write = single('write', 40, (random) => ({ tag: random.below(2 ** 31) }))
export const zero = single('zero', 10, (random) => ({ unmap: random.chance(0.6) }))
export const discard = single('discard', 10, () => ({}))

export const flush = {
  name: 'flush',
  weight: 5,
  plan: () => ({}),
  run: async (subject) => (await subject.open()).flush(),
}

/** Closes the image; it may be opened again over a storage that takes its time. */
export const reopen = {
  name: 'reopen',
  weight: 8,
  plan: (_subject, random) => ({ delay: random.chance(0.5) ? random.below(2 ** 31) : undefined }),
  async run(subject, { delay }) {
    await subject.close()
    await subject.open(delay)
  },
}

/** Reads and changes begun at once. A read of what no change touches has to give what stands there. */
export const together = {
  name: 'together',
  weight: 12,
  plan(subject, random) {
    const parts = []
    for (let i = 2 + random.below(8); i > 0; i--) {
      const kind = random.weighted([
        [3, 'write'],
        [1, 'zero'],
        [1, 'discard'],
        [1, 'flush'],
        [0.5, 'compact'],
        [0.5, 'check'],
        [4, 'read'],
      ])
      const range = wholeImage.has(kind) ? {} : rangeOf(subject, random)
      parts.push({ kind, ...range, ...(kind === 'write' && { tag: random.below(2 ** 31) }) })
    }
    return { parts }
  },
  possible: (subject, step) =>
    step === undefined || step.parts.every((part) => wholeImage.has(part.kind) || fits(subject, part)),
  async run(subject, { parts }) {
    const disk = await subject.open()
    const changes = parts.filter(({ kind }) => kind !== 'read')
    const reads = parts.filter(
      (read) =>
        read.kind === 'read' &&
        changes.every(
          ({ kind, offset, length }) =>
            wholeImage.has(kind) || offset + length <= read.offset || read.offset + read.length <= offset,
        ),
    )
    const all = parts
      .filter((part) => part.kind !== 'read' || reads.includes(part))
      .map(async (part) => {
        if (part.kind !== 'read') return calls[part.kind](disk, part)
        const bytes = new Uint8Array(part.length)
        await disk.read(part.offset, bytes)
        const expected = subject.content.subarray(part.offset, part.offset + part.length)
        same(bytes, expected, `a read at ${part.offset} while the disk was changed`)
      })
    const results = await Promise.allSettled(all)
    for (const change of changes) effects[change.kind](subject, change)
    const failed = results.find(({ status }) => status === 'rejected')
    if (failed !== undefined) throw failed.reason
  },
}
