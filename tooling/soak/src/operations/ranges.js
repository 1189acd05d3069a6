/**
 * A range of the disk: short ones and ones at the edges of clusters more often.
 * @param {import('../subject.js').Subject} subject
 * @param {import('../random.js').Random} random
 */
export function rangeOf({ size, clusterSize, case: { extended } }, random) {
  const unit = random.weighted([
    [2, 1],
    [4, 512],
    [extended ? 2 : 0, clusterSize / 32],
    [4, clusterSize],
  ])
  const longest = random.chance(0.6) ? 3 * unit : Math.min(size / 3, 40 * clusterSize)
  const offset = Math.min(size - 1, Math.floor((random.next() * size) / unit) * unit)
  const length = Math.max(1, Math.floor((random.next() * longest) / unit) * unit)
  const toEnd = random.chance(0.04)
  return { offset, length: toEnd ? size - offset : Math.min(length, size - offset) }
}

/** A range in whole sectors, as qemu-io takes it. */
export function sectorsOf(subject, random) {
  const { offset, length } = rangeOf(subject, random)
  const start = Math.floor(offset / 512) * 512
  return { offset: start, length: Math.min(subject.size - start, Math.ceil(length / 512) * 512) }
}

/** False where a shorter sequence made the disk too small for a step. */
export function fits({ size }, step) {
  return step === undefined || step.offset + step.length <= size
}
