/**
 * What is measured: the same work by qemu-img and by img, on the same files.
 * `limit` is the ratio of wall times that must not be passed; `aim` what we want.
 * @type {{ name: string, theirs: (f: Files) => string[], ours: (f: Files) => string[], check?: string, limit: number, aim?: number }[]}
 */
export const cases = [
  {
    name: 'raw to raw',
    theirs: ({ raw, out }) => ['convert', '-f', 'raw', '-O', 'raw', raw, out],
    limit: 1.0,
    aim: 0.7,
  },
  {
    name: 'raw to qcow2',
    theirs: ({ raw, out }) => ['convert', '-f', 'raw', '-O', 'qcow2', raw, out],
    limit: 1.0,
    aim: 0.7,
  },
  {
    name: 'qcow2 to raw',
    theirs: ({ qcow2, out }) => ['convert', '-f', 'qcow2', '-O', 'raw', qcow2, out],
    limit: 1.0,
    aim: 0.7,
  },
  {
    name: 'raw to qcow2 -c',
    theirs: ({ raw, out }) => ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, out],
    limit: 0.65,
    aim: 0.4,
    slow: true,
  },
  {
    name: 'qcow2 -c to raw',
    theirs: ({ packed, out }) => ['convert', '-f', 'qcow2', '-O', 'raw', packed, out],
    limit: 0.85,
  },
]
