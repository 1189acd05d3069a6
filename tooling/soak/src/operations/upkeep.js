import { statSync } from 'node:fs'
import { ImageError } from '@img/core'
import { contentOf } from '../random.js'

/** Writes whole clusters in compressed form. */
export const compressed = {
  name: 'compressed',
  weight: 8,
  possible: (subject, step) =>
    subject.case.data === 'inside' &&
    subject.case.encryption === 'none' &&
    (step === undefined || step.offset < subject.size),
  plan({ size, clusterSize }, random) {
    const offset = Math.floor((random.next() * size) / clusterSize) * clusterSize
    return { offset, clusters: 1 + random.below(6), tag: random.below(2 ** 31) }
  },
  async run(subject, { offset, clusters, tag }) {
    const length = Math.min(clusters * subject.clusterSize, subject.size - offset)
    const bytes = contentOf(length, tag)
    await (await subject.open()).writeCompressed(offset, bytes)
    subject.compressed = true
    subject.content.set(bytes, offset)
  },
}

/** Changes of the image's options. What is refused changes nothing. */
export const amend = {
  name: 'amend',
  weight: 5,
  plan(_subject, random) {
    return {
      options: random.weighted([
        [2, { lazy_refcounts: random.chance(0.5) }],
        [2, { refcount_bits: 2 ** random.below(7) }],
        [1, { compat: '0.10' }],
        [2, { compat: '1.1' }],
      ]),
    }
  },
  async run(subject, { options }) {
    const disk = await subject.open()
    try {
      await disk.amend(options)
    } catch (error) {
      if (!ImageError.is(error, 'IMG_UNSUPPORTED') && !ImageError.is(error, 'IMG_BAD_OPTION')) throw error
    }
    subject.refreshOptions(await disk.info())
  },
}

/** Gives the host back what nothing uses. */
export const compact = {
  name: 'compact',
  weight: 5,
  async run(subject) {
    const disk = await subject.open()
    await disk.flush()
    const before = statSync(subject.path).size
    await disk.compact()
    const after = statSync(subject.path).size
    if (after > before) throw new Error(`compact made the file larger: ${before} to ${after} bytes`)
  },
  plan: () => ({}),
}

/** Repairs an image that has nothing to be repaired. */
export const repair = {
  name: 'repair',
  weight: 3,
  plan: (_subject, random) => ({ repair: random.pick(['leaks', 'all']) }),
  async run(subject, { repair: what }) {
    const { corruptions, corruptionsFixed, leaks, leaksFixed } = await (await subject.open()).check({
      repair: what,
    })
    if (corruptions || corruptionsFixed || leaks || leaksFixed)
      throw new Error('check found something to repair')
  },
}
