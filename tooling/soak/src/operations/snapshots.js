import { ImageError } from '@img/core'
import { must } from '../tools.js'

const flags = { create: '-c', apply: '-a', delete: '-d' }

/** Takes, applies or deletes an internal snapshot, here or by qemu-img. */
export const snapshot = {
  name: 'snapshot',
  weight: 14,
  possible: (subject, step) =>
    subject.mayHaveSnapshots &&
    // None is applied where there are bitmaps.
    !(step?.verb === 'apply' && subject.bitmaps.size > 0) &&
    (step === undefined || subject.snapshots.has(step.target) === (step.verb !== 'create')),
  plan(subject, random) {
    const names = [...subject.snapshots.keys()]
    const name = random.pick(names)
    const verb =
      name === undefined || (names.length < 4 && random.chance(0.4))
        ? 'create'
        : random.pick(subject.bitmaps.size > 0 ? ['delete'] : ['apply', 'delete'])
    return {
      verb,
      target: verb === 'create' ? `s${random.below(1e6)}` : name,
      byQemu: roomFor(subject) && random.chance(0.4),
    }
  },
  async run(subject, { verb, target, byQemu }) {
    if (byQemu) {
      await subject.close()
      const options = subject.case.encryption === 'none' ? [subject.path] : subject.qemuArgs()
      must('qemu-img', ['snapshot', flags[verb], target, ...options])
    } else {
      const disk = await subject.open()
      try {
        await disk.snapshots[verb](target)
      } catch (error) {
        // Refcounts that cannot be larger are a reason to refuse, having changed nothing.
        if (!roomFor(subject) && ImageError.is(error) && /refcount/i.test(error.message)) return
        throw error
      }
    }
    if (verb === 'create') subject.snapshots.set(target, subject.content.slice())
    else if (verb === 'delete') subject.snapshots.delete(target)
    else subject.reverted(subject.snapshots.get(target))
  },
}

/** Whether refcounts of this width are large enough for one more snapshot and for applying it. */
function roomFor({ refcountBits, snapshots, compressed }) {
  return compressed ? refcountBits >= 16 : snapshots.size + 3 <= 2 ** refcountBits - 1
}
