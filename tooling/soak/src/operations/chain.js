import { commit, rebase } from '@img/core'
import { must } from '../tools.js'

/** Snapshots show of a backing file what stands there now: no model keeps up with that. */
const withoutSnapshots = ({ snapshots }) => snapshots.size === 0

/** Gives the image another backing file, or none; what the disk shows stays. */
export const rebaseIt = {
  name: 'rebase',
  weight: 4,
  possible: (subject) =>
    withoutSnapshots(subject) &&
    subject.files.size > 0 &&
    subject.case.data !== 'raw' &&
    subject.case.encryption === 'none',
  plan: (subject, random) => ({ to: random.pick([undefined, ...subject.files.keys()]) }),
  async run(subject, { to }) {
    const disk = await subject.open()
    const backing = to === undefined ? undefined : await subject.openBelow(to)
    try {
      const format = to?.endsWith('.raw') ? 'raw' : 'qcow2'
      await rebase(disk, {
        reference: to === undefined ? undefined : { kind: 'backing', name: to, format },
        backing,
      })
    } finally {
      await backing?.close()
      await subject.close()
    }
    subject.rebased(to)
  },
}

/** Writes what the image holds into its backing file, or into the one beneath that; by img or by qemu-img. */
export const commitIt = {
  name: 'commit',
  weight: 4,
  possible: (subject) =>
    withoutSnapshots(subject) && subject.backing !== undefined && subject.case.encryption === 'none',
  plan: ({ backing }, random) => ({
    deep: backing === 'middle.qcow2' && random.chance(0.3),
    byQemu: random.chance(0.3),
  }),
  async run(subject, { deep, byQemu }) {
    // A shorter sequence may have another backing file here.
    const into = deep && subject.backing === 'middle.qcow2' ? 'base.raw' : subject.backing
    const depth = into === subject.backing ? 1 : 2
    await subject.close()
    if (byQemu) {
      const base = depth === 1 ? [] : ['-b', into]
      must('qemu-img', ['commit', '-q', '-f', 'qcow2', ...base, subject.path])
    } else {
      const disk = await subject.open(undefined, depth)
      try {
        await commit(disk, { base: depth === 1 ? disk.backing : disk.backing.backing })
      } finally {
        await subject.close()
      }
    }
    subject.committed(into)
  },
}
