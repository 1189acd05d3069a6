import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { has } from './tools.js'

/** Kept between runs: building takes a minute. `IMG_GUEST` names another place. */
const work = process.env.IMG_GUEST ?? join(tmpdir(), 'img-lvm-guest')

const needed = [
  'qemu-system-x86_64',
  'python3',
  'busybox',
  'cpio',
  'gcc',
  'lvm',
  'dmsetup',
  'pdata_tools',
  'mke2fs',
  'e2fsck',
  'resize2fs',
  'sfdisk',
  'depmod',
]

process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`

/** Why no guest can be run; undefined where one can. */
export function bootable(tool) {
  if (!existsSync(join(tool, 'run.py'))) return 'there is no ../shared/tools/lvm-guest'
  const missing = needed.filter((program) => !has(program))
  return missing.length === 0 ? undefined : `not installed: ${missing.join(', ')}`
}

/** Runs a script in the guest over these disks, which keep what it writes. */
export function guestRun({ tool, dir, script, disks, out }) {
  build(tool)
  const args = [join(tool, 'run.py'), script, ...disks, '--out', out, '--timeout', '400']
  const { status, stdout, stderr, error } = spawnSync('python3', args, {
    cwd: dir,
    env: { ...process.env, WORK: work },
    encoding: 'utf8',
    timeout: 500_000,
    maxBuffer: 2 ** 26,
  })
  if (error) throw error
  return { status, log: stdout + stderr }
}

function build(tool) {
  const initrd = join(work, 'initrd.gz')
  const ready = join(work, 'tools-added')
  if (existsSync(initrd) && existsSync(ready)) return
  rmSync(ready, { force: true })
  mkdirSync(work, { recursive: true })
  const { status, stdout, stderr, error } = spawnSync(join(tool, 'build-guest.sh'), {
    env: { ...process.env, WORK: work },
    encoding: 'utf8',
    timeout: 300_000,
  })
  if (error) throw error
  if (status !== 0) throw new Error(`the guest cannot be built:\n${stdout}${stderr}`)
  addTools(initrd)
  writeFileSync(ready, '')
}

/** Tools that the guest lacks, as a second archive behind the first: the kernel unpacks both. */
function addTools(initrd) {
  const root = join(work, 'more')
  rmSync(root, { recursive: true, force: true })
  mkdirSync(join(root, 'usr/sbin'), { recursive: true })
  symlinkSync('lvm', join(root, 'usr/sbin/pvck'))
  for (const name of ['e2fsck', 'resize2fs']) {
    const path = spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim()
    copyFileSync(path, join(root, 'usr/sbin', name))
    const { stdout } = spawnSync('ldd', [path], { encoding: 'utf8' })
    for (const [library] of stdout.matchAll(/\/\S+/g)) {
      mkdirSync(join(root, dirname(library)), { recursive: true })
      copyFileSync(library, join(root, library))
    }
  }
  const archive = spawnSync('bash', ['-c', 'find . | cpio -o -H newc --quiet | gzip -1'], {
    cwd: root,
    maxBuffer: 2 ** 26,
  })
  if (archive.status !== 0) throw new Error(String(archive.stderr))
  writeFileSync(initrd, Buffer.concat([readFileSync(initrd), archive.stdout]))
}
