import { copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'

const MIB = 1024 * 1024

/**
 * Work on images that exist. `make` prepares files once; `before` what each run needs anew; the command is the same for
 * both tools, but for the name.
 * @typedef {object} InPlace
 * @property {string} name
 * @property {(dir: string, qemu: (...args: string[]) => void, io: (...args: string[]) => void) => void} make
 * @property {(dir: string, qemu: (...args: string[]) => void) => void} [before]
 * @property {(dir: string) => string[]} command
 * @property {(dir: string, qemu: (...args: string[]) => void) => void} [verify] after img
 * @property {number} [limit] ratio of wall times that must not be passed
 * @property {number} [above] milliseconds above the start of bare node that must not be passed
 */

const once = (path, make) => {
  if (!existsSync(path)) make()
}
const copy = (dir, from, to) => copyFileSync(join(dir, from), join(dir, to))

/** Data in eight places of a disk of 2 GiB, 64 MiB each. */
function scatter(io, path, byte) {
  const place = (i) => (i * 256 + byte * 12) * MIB
  const writes = Array.from({ length: 8 }, (_, i) => ['-c', `write -P ${byte + i} ${place(i)} 64M`])
  io('-f', 'qcow2', ...writes.flat(), path)
}

/** Two disks that differ in part, an overlay of the first, and one of a copy of it. */
function makeChain(dir, qemu, io) {
  once(join(dir, 'above.qcow2'), () => {
    for (const [name, byte] of [
      ['one.qcow2', 1],
      ['two.qcow2', 9],
    ]) {
      qemu('create', '-q', '-f', 'qcow2', join(dir, name), '2G')
      scatter(io, join(dir, name), byte)
    }
    copy(dir, 'one.qcow2', 'below.qcow2')
    for (const [name, backing] of [
      ['overlay.qcow2', 'one.qcow2'],
      ['above.qcow2', 'below.qcow2'],
    ]) {
      qemu('create', '-q', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', join(dir, name))
      scatter(io, join(dir, name), 5)
    }
  })
}

/** @type {readonly InPlace[]} */
export const inPlace = [
  {
    name: 'rebase, safe',
    make: makeChain,
    before: (dir) => copy(dir, 'overlay.qcow2', 'work.qcow2'),
    command: (dir) => ['rebase', '-f', 'qcow2', '-b', 'two.qcow2', '-F', 'qcow2', join(dir, 'work.qcow2')],
    verify: (dir, qemu) => qemu('compare', join(dir, 'overlay.qcow2'), join(dir, 'work.qcow2')),
    limit: 1.3,
  },
  {
    name: 'commit',
    make: makeChain,
    before(dir) {
      copy(dir, 'one.qcow2', 'below.qcow2')
      copy(dir, 'above.qcow2', 'work.qcow2')
    },
    command: (dir) => ['commit', '-q', '-f', 'qcow2', join(dir, 'work.qcow2')],
    verify: (dir, qemu) => qemu('compare', join(dir, 'overlay.qcow2'), join(dir, 'below.qcow2')),
    limit: 1.3,
  },
  {
    name: 'check of 512 GiB',
    make(dir, qemu) {
      const path = join(dir, 'tables.qcow2')
      once(path, () => qemu('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', path, '512G'))
    },
    command: (dir) => ['check', '-f', 'qcow2', join(dir, 'tables.qcow2')],
    limit: 1.3,
  },
  {
    name: 'snapshot of 1 TiB',
    make() {},
    before: (dir, qemu) => qemu('create', '-q', '-f', 'qcow2', join(dir, 'tebi.qcow2'), '1T'),
    command: (dir) => ['snapshot', '-c', 'first', join(dir, 'tebi.qcow2')],
    verify: (dir, qemu) => qemu('check', '-q', join(dir, 'tebi.qcow2')),
    above: 100,
  },
]
