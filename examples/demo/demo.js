// The main job, on the disk that stands beside this file: raw to qcow2 and back, with a look inside.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const img = resolve(here, '../../apps/cli/dist/img.js')
const shown = relative(process.cwd(), img)

/** Shows a command as the reader would type it, and runs it in the folder of the example. */
function run(dir, ...args) {
  console.log(`\n$ img ${args.join(' ')}`)
  const { status } = spawnSync(process.execPath, [img, ...args], {
    cwd: dir,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (status !== 0) throw new Error(`img ${args[0]} ended with ${status}`)
}

const dir = mkdtempSync(join(tmpdir(), 'img-demo-'))
try {
  console.log('A raw disk with a partition and a file system becomes a qcow2 image, and a raw disk again.')
  run(dir, 'convert', '-f', 'raw', '-O', 'qcow2', join(here, 'disk.raw'), 'disk.qcow2')
  run(dir, 'info', 'disk.qcow2')
  run(dir, 'map', 'disk.qcow2')
  run(dir, 'convert', '-f', 'qcow2', '-O', 'raw', 'disk.qcow2', 'back.raw')
  run(dir, 'compare', '-f', 'raw', '-F', 'raw', join(here, 'disk.raw'), 'back.raw')
} finally {
  rmSync(dir, { recursive: true, force: true })
}
console.log(`\nYour own file:\n\n  node ${shown} convert -p -O qcow2 YOUR-DISK.img YOUR-DISK.qcow2`)
console.log(`\nEverything else: node ${shown} --help`)
