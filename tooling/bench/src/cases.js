/** A secret for both tools; `data=` is for tests. */
export const secret = ['--object', 'secret,id=bench,data=correct horse']

/** How a LUKS image is made: little time for the passphrase, so that the time is that of the data. */
export const luksOptions = 'encrypt.format=luks,encrypt.key-secret=bench,encrypt.iter-time=10'

/** How a LUKS image is named. @param {string} path */
const encrypted = (path) => `driver=qcow2,encrypt.key-secret=bench,file.filename=${path}`

/**
 * What is measured: the same work by qemu-img and by img, on the same files.
 * `slow`: it is run so many times at most. `limit` is the ratio of wall times that must not be passed; `aim` what we want.
 * @type {{ name: string, theirs: (f: Files) => string[], compare?: (f: Files) => string[], limit: number, aim?: number, slow?: number, mayFail?: boolean }[]}
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
    slow: 3,
  },
  {
    name: 'qcow2 -c to raw',
    theirs: ({ packed, out }) => ['convert', '-f', 'qcow2', '-O', 'raw', packed, out],
    limit: 0.85,
  },
  {
    name: 'LUKS to raw',
    theirs: ({ luks, out }) => ['convert', ...secret, '--image-opts', encrypted(luks), '-O', 'raw', out],
    limit: 1.0,
  },
  {
    name: 'raw to LUKS',
    theirs: ({ raw, out }) => ['convert', ...secret, '-f', 'raw', '-O', 'qcow2', '-o', luksOptions, raw, out],
    compare: ({ raw, out }) => [...secret, '--image-opts', `driver=raw,file.filename=${raw}`, encrypted(out)],
    limit: 1.0,
  },
  {
    name: 'raw to vdi',
    theirs: ({ raw, out }) => ['convert', '-f', 'raw', '-O', 'vdi', raw, out],
    limit: 1.1,
  },
  {
    name: 'vdi to raw',
    theirs: ({ vdi, out }) => ['convert', '-f', 'vdi', '-O', 'raw', vdi, out],
    limit: 1.1,
  },
  {
    name: 'raw to vmdk',
    theirs: ({ raw, out }) => ['convert', '-f', 'raw', '-O', 'vmdk', raw, out],
    limit: 1.1,
  },
  {
    name: 'vmdk to raw',
    theirs: ({ vmdk, out }) => ['convert', '-f', 'vmdk', '-O', 'raw', vmdk, out],
    limit: 1.1,
  },
  {
    name: 'raw to streamOptimized',
    theirs: ({ raw, out }) => [
      ...['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized'],
      ...[raw, out],
    ],
    limit: 0.6,
    slow: 3,
  },
  {
    name: 'streamOptimized to raw',
    theirs: ({ streamed, out }) => ['convert', '-f', 'vmdk', '-O', 'raw', streamed, out],
    limit: 0.8,
  },
  // qemu-img writes each table entry of this format on its own: minutes.
  {
    name: 'raw to qcow',
    theirs: ({ raw, out }) => ['convert', '-f', 'raw', '-O', 'qcow', raw, out],
    limit: 1.1,
    slow: 1,
  },
  {
    name: 'qcow to raw',
    theirs: ({ qcow, out }) => ['convert', '-f', 'qcow', '-O', 'raw', qcow, out],
    limit: 1.1,
    slow: 1,
  },
  {
    name: 'raw to qcow -c',
    // Fails with status 1 and no message once all is written (qemu-img 7.2): what it made is whole.
    mayFail: true,
    theirs: ({ raw, out }) => ['convert', '-c', '-f', 'raw', '-O', 'qcow', raw, out],
    limit: 0.7,
    slow: 1,
  },
]
