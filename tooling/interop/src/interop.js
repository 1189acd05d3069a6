// pnpm interop: what img writes is checked and read by qemu-img, qemu-io, nbdkit and libqcow; what qemu-img writes is read by img.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { makeDisk } from './disk.js'
import { has, run, runImg, sha256, shell } from './tools.js'

if (!has('qemu-img')) {
  console.log('SKIPPED: qemu-img is not installed')
  console.log('0 passed, 0 failed, 1 skipped')
  process.exit(0)
}

const size = 9 * 1024 * 1024 + 512 * 3
const seed = Number(process.env.IMG_SEED ?? 20261)
const dir = mkdtempSync(join(tmpdir(), 'img-interop-'))
const count = { passed: 0, failed: 0, skipped: 0 }

function check(name, body) {
  try {
    body()
    count.passed++
  } catch (error) {
    count.failed++
    console.log(`FAILED ${name} (IMG_SEED=${seed})\n${error.message}`)
  }
}

/** Each create option alone, and pairs that meet in the layout. */
const options = [
  '',
  ...['0.10', '1.1'].map((compat) => `compat=${compat}`),
  ...['512', '4k', '64k', '2M'].map((cluster) => `cluster_size=${cluster}`),
  ...[1, 2, 4, 8, 16, 32, 64].map((bits) => `refcount_bits=${bits}`),
  'refcount_bits=1,cluster_size=512',
  'lazy_refcounts=on',
  'extended_l2=on',
  'extended_l2=on,cluster_size=16k',
  'compression_type=zstd',
  'preallocation=metadata',
  'preallocation=falloc',
  'preallocation=full',
]

/** The disk in `image` is the one in `disk.raw`, says qemu-img, and the image has no fault. */
function judged(image) {
  run(dir, 'qemu-img', ['check', '-f', 'qcow2', image])
  run(dir, 'qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', image])
}

try {
  makeDisk(join(dir, 'disk.raw'), size, seed)
  const expected = sha256(join(dir, 'disk.raw'))

  for (const option of options) {
    for (const packed of [false, true]) {
      if (packed && /prealloc/.test(option)) continue
      const name = `convert ${packed ? '-c ' : ''}-o ${option || '(none)'}`
      const extra = [...(packed ? ['-c'] : []), ...(option ? ['-o', option] : [])]
      check(name, () => {
        runImg(dir, ['convert', '-f', 'raw', '-O', 'qcow2', ...extra, 'disk.raw', 'a.qcow2'])
        judged('a.qcow2')
        run(dir, 'qemu-io', [
          '-f',
          'qcow2',
          '-c',
          'write -P 7 65000 1000',
          '-c',
          'read -P 7 65000 1000',
          'a.qcow2',
        ])
        run(dir, 'qemu-img', ['check', '-f', 'qcow2', 'a.qcow2'])
      })
      check(`${name} to a pipe`, () => {
        if (/prealloc/.test(option)) return
        shell(dir, `img convert -f raw -O qcow2 ${extra.join(' ')} disk.raw - | cat > b.qcow2`)
        judged('b.qcow2')
      })
      check(`${name} by qemu-img`, () => {
        run(dir, 'qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...extra, 'disk.raw', 'c.qcow2'])
        runImg(dir, ['convert', '-f', 'qcow2', '-O', 'raw', 'c.qcow2', 'back.raw'])
        if (sha256(join(dir, 'back.raw')) !== expected) throw new Error('the content is different')
        runImg(dir, ['compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'c.qcow2'])
        const ours = JSON.parse(runImg(dir, ['map', '--output=json', 'c.qcow2']))
        const theirs = JSON.parse(run(dir, 'qemu-img', ['map', '--output=json', 'c.qcow2']))
        if (JSON.stringify(ours) !== JSON.stringify(theirs)) throw new Error('the maps are different')
      })
    }
  }

  check('qcow2 from a pipe', () => {
    shell(dir, 'cat disk.raw | img convert -f raw - -O qcow2 d.qcow2')
    judged('d.qcow2')
  })
  check('qcow2 to a pipe, from qcow2', () => {
    shell(dir, 'img convert d.qcow2 -O qcow2 - | cat > e.qcow2')
    judged('e.qcow2')
  })
  check('raw to a pipe', () => {
    shell(dir, 'img convert d.qcow2 -O raw - | cmp - disk.raw')
  })
  check('backing file', () => {
    runImg(dir, ['create', '-q', '-f', 'qcow2', '-b', 'd.qcow2', '-F', 'qcow2', 'top.qcow2'])
    run(dir, 'qemu-io', ['-f', 'qcow2', '-c', 'write -P 3 1M 70000', 'top.qcow2'])
    run(dir, 'qemu-img', ['check', '-f', 'qcow2', 'top.qcow2'])
    runImg(dir, ['convert', '-O', 'raw', 'top.qcow2', 'top.raw'])
    run(dir, 'qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', 'top.raw', 'top.qcow2'])
  })
  if (has('qcowinfo')) check('libqcow', () => run(dir, 'qcowinfo', ['d.qcow2']))
  else count.skipped++
} finally {
  rmSync(dir, { recursive: true, force: true })
}
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
process.exitCode = count.failed === 0 ? 0 : 1
