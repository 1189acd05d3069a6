import { must } from '../tools.js'

/** Makes the disk larger or smaller, here or by qemu-img. */
export const resize = {
  name: 'resize',
  weight: 8,
  // Version 2 does not keep the sizes of snapshots.
  possible: ({ version, snapshots, size, clusterSize }, step) =>
    (version === 3 || snapshots.size === 0) &&
    // Growing by qemu-img shows again what a cut cluster held behind the old end.
    !(step?.byQemu && step.size > size && size % clusterSize !== 0),
  plan(subject, random) {
    const size = 512 * Math.ceil(((0.5 + random.next()) * subject.case.size) / 512)
    return {
      size,
      byQemu: random.chance(0.3) && (size <= subject.size || subject.size % subject.clusterSize === 0),
      preallocation: random.chance(0.3) ? random.pick(['metadata', 'falloc', 'full']) : 'off',
    }
  },
  async run(subject, { size, byQemu, preallocation }) {
    const shrink = size < subject.size
    if (byQemu) {
      await subject.close()
      must('qemu-img', ['resize', '-q', ...subject.qemuArgs(...(shrink ? ['--shrink'] : [])), String(size)])
    } else {
      await (await subject.open()).resize(size, {
        shrink,
        preallocation: size > subject.size ? preallocation : undefined,
      })
    }
    subject.resized(size)
  },
}
