import { must, run } from '../tools.js'
import { fits, sectorsOf } from './ranges.js'

/** Writes by qemu-io: data, zeros, compressed clusters, discard. */
export const qemuWrite = {
  name: 'qemu-io',
  weight: 14,
  plan(subject, random) {
    const { case: image, clusterSize, version, hasBacking } = subject
    const kind = random.weighted([
      [4, 'write'],
      [2, 'zero'],
      [1, 'zero-unmap'],
      [image.data === 'inside' && image.encryption === 'none' ? 2 : 0, 'compressed'],
      // Of version 2 with a backing file QEMU refuses it.
      [version === 3 || !hasBacking ? 2 : 0, 'discard'],
    ])
    const range = sectorsOf(subject, random)
    if (kind === 'compressed') {
      // One cluster at a time, whole.
      const offset = Math.floor(range.offset / clusterSize) * clusterSize
      return {
        kind,
        offset,
        length: Math.min(clusterSize, subject.size - offset),
        byte: 1 + random.below(255),
      }
    }
    return { kind, ...range, byte: 1 + random.below(255) }
  },
  possible: (subject, step) =>
    fits(subject, step) && (step?.kind !== 'discard' || subject.version === 3 || !subject.hasBacking),
  async run(subject, { kind, offset, length, byte }) {
    await subject.close()
    const command = {
      write: `write -P ${byte}`,
      zero: 'write -z',
      'zero-unmap': 'write -z -u',
      compressed: `write -c -P ${byte}`,
      discard: 'discard',
    }[kind]
    const args = subject.qemuArgs('-c', `${command} ${offset} ${length}`)
    if (kind === 'compressed') {
      // QEMU compresses nothing into a cluster that is there already.
      const { status, stdout, stderr } = run('qemu-io', args)
      if (status !== 0 && /Input\/output error/.test(stdout + stderr)) return
      if (status !== 0) throw new Error(`qemu-io ${args.join(' ')}: exit code ${status}\n${stdout}${stderr}`)
      subject.compressed = true
    } else must('qemu-io', args)
    if (kind === 'discard') {
      const { start, end } = subject.whole(offset, length)
      if (start < end) subject.content.fill(0, start, end)
    } else {
      subject.content.fill(kind.startsWith('zero') ? 0 : byte, offset, offset + length)
    }
  },
}

/** Changes of the image's options by qemu-img; what it refuses changes nothing. */
export const qemuAmend = {
  name: 'qemu-img amend',
  weight: 3,
  possible: ({ case: { encryption } }) => encryption === 'none',
  plan({ clusterSize }, random) {
    return {
      option: random.weighted([
        [2, `lazy_refcounts=${random.pick(['on', 'off'])}`],
        // With large clusters qemu-img takes minutes.
        [clusterSize <= 65536 ? 2 : 0, `refcount_bits=${2 ** random.below(7)}`],
        [1, 'compat=0.10'],
        [2, 'compat=1.1'],
      ]),
    }
  },
  async run(subject, { option }) {
    await subject.close()
    const { status } = run('qemu-img', ['amend', ...subject.qemuArgs('-o', option)])
    if (status !== 0) return
    const info = JSON.parse(must('qemu-img', ['info', '--output=json', ...subject.qemuArgs()]))
    subject.refreshOptions({ specific: info['format-specific'].data })
  },
}
