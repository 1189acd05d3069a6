import { must } from '../tools.js'

/** Adds, removes, clears, enables, disables or merges persistent bitmaps, here or by qemu-img. */
export const bitmap = {
  name: 'bitmap',
  weight: 8,
  possible: (subject, step) =>
    subject.version === 3 &&
    subject.case.encryption === 'none' &&
    (step === undefined ||
      (subject.bitmaps.has(step.target) === (step.verb !== 'add') &&
        (step.verb !== 'merge' || subject.bitmaps.has(step.source)))),
  plan(subject, random) {
    const names = [...subject.bitmaps.keys()]
    const target = random.pick(names)
    const verb =
      target === undefined || (names.length < 3 && random.chance(0.4))
        ? 'add'
        : random.pick(['remove', 'clear', 'enable', 'disable', 'merge'])
    return {
      verb,
      target: verb === 'add' ? `b${random.below(1e6)}` : target,
      byQemu: random.chance(0.4),
      ...(verb === 'add' && { granularity: 2 ** (9 + random.below(12)), disabled: random.chance(0.2) }),
      ...(verb === 'merge' && { source: random.pick(names) }),
    }
  },
  async run(subject, { verb, target, byQemu, granularity, disabled, source }) {
    // Of one that is merged, what it marks is what both mark.
    const merged = verb === 'merge' ? await subject.dirty(source) : undefined
    if (byQemu) {
      await subject.close()
      const more = []
      if (verb === 'add') more.push('-g', String(granularity), ...(disabled ? ['--disable'] : []))
      const flag = verb === 'merge' ? ['--merge', source] : [`--${verb}`]
      must('qemu-img', ['bitmap', ...flag, ...more, '-f', 'qcow2', subject.path, target])
    } else {
      const { bitmaps } = await subject.open()
      if (verb === 'add') await bitmaps.add(target, { granularity, disabled })
      else if (verb === 'merge') await bitmaps.mark(target, merged)
      else await bitmaps[verb](target)
    }
    subject.bitmapChanged(verb, target, { granularity, disabled, merged })
  },
}
