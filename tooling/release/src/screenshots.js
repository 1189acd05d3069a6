// pnpm screenshots: runs the built command under tmux and writes what is on the terminal into docs/images.
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import { run } from './run.js'
import { terminalSvg, withoutColours } from './terminal-svg.js'

const root = process.cwd()
const columns = 88
const rows = 30
const folder = mkdtempSync(join(tmpdir(), 'img-shots-'))
const images = join(root, 'docs/images')
const socket = `img-shots-${process.pid}`
const built = join(root, 'apps/cli/dist/img.js')

const tmux = (/** @type {string[]} */ ...args) => run('tmux', ['-L', socket, ...args], { cwd: folder })
const img = (/** @type {string[]} */ ...args) => run(process.execPath, [built, ...args], { cwd: folder })
const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function screen() {
  return (await tmux('capture-pane', '-p', '-e')).stdout
}

/**
 * Waits until something is on the screen.
 * @param {RegExp} wanted
 */
async function until(wanted) {
  for (let tries = 0; tries < 600; tries++) {
    const text = await screen()
    if (wanted.test(withoutColours(text))) return text
    await pause(50)
  }
  throw new Error(`${wanted} did not come:\n${await screen()}`)
}

/**
 * @param {string} name of the file
 * @param {string} title
 * @param {string} keys what is typed
 * @param {RegExp} wanted when to look
 * @param {boolean} [enter]
 */
async function shoot(name, title, keys, wanted, enter = true) {
  await tmux('send-keys', 'C-u')
  await tmux('send-keys', '-l', 'clear')
  await tmux('send-keys', 'Enter')
  await until(/^\$ *\n/)
  await tmux('send-keys', '-l', keys)
  if (enter) await tmux('send-keys', 'Enter')
  else await tmux('send-keys', 'Tab', 'Tab')
  const text = await until(wanted)
  writeFileSync(join(images, `${name}.svg`), terminalSvg(text, columns, title))
  process.stdout.write(`docs/images/${name}.svg: written\n`)
  await tmux('send-keys', 'C-c')
}

/**
 * A disk with data here and there.
 * @param {string} name
 * @param {number} megabytes
 * @param {readonly (readonly [at: number, length: number])[]} parts in MiB
 */
function disk(name, megabytes, parts) {
  const fd = openSync(join(folder, name), 'w')
  const block = new Uint8Array(1 << 20)
  for (const [at, length] of parts) {
    for (let i = 0; i < length; i++) {
      // Noise, so that compressing it takes a while.
      for (let j = 0; j < block.length; j++) block[j] = Math.imul(j + i * 7919 + at, 2654435761) >>> 13
      writeSync(fd, block, 0, block.length, (at + i) << 20)
    }
  }
  ftruncateSync(fd, megabytes * (1 << 20))
  closeSync(fd)
}

try {
  mkdirSync(images, { recursive: true })
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'img'), `#!/bin/sh\nexec "${process.execPath}" "${built}" "$@"\n`)
  chmodSync(join(bin, 'img'), 0o755)
  disk('server.raw', 2000, [
    [0, 40],
    [130, 9],
    [200, 260],
    [700, 60],
    [1200, 3],
    [1500, 150],
    [1990, 10],
  ])
  disk('top.raw', 2000, [
    [20, 30],
    [500, 90],
    [1205, 60],
  ])
  await img('convert', '-c', '-f', 'raw', '-O', 'qcow2', 'server.raw', 'base.qcow2')
  await img('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'web.qcow2')
  await img('convert', '-n', '-f', 'raw', '-O', 'qcow2', '--target-is-zero', 'top.raw', 'web.qcow2').catch(
    () => undefined,
  )
  await img('create', '-q', '-f', 'qcow2', 'empty.qcow2', '2000M')
  await img('create', '-q', '-u', '-f', 'qcow2', '-b', '/etc/shadow', '-F', 'raw', 'download.qcow2', '10G')
  await tmux(
    '-f',
    '/dev/null',
    'new-session',
    '-d',
    '-x',
    String(columns),
    '-y',
    String(rows),
    `env PATH='${bin}${delimiter}${process.env.PATH}' PS1='$ ' LC_ALL=C.UTF-8 TERM=xterm-256color NO_COLOR= bash --norc --noprofile`,
  )
  await until(/^\$/)
  await tmux('send-keys', '-l', 'source <(img completion bash)')
  await tmux('send-keys', 'Enter')
  await shoot(
    'picture',
    'img map --picture draws which parts of a disk hold data',
    'img map --picture web.qcow2',
    /each [\d.]+ \w+/,
  )
  await shoot(
    'doctor',
    'img doctor warns of an image that names a file of the host',
    'img doctor download.qcow2',
    /there are risks/,
  )
  await shoot('info', 'img info shows the size on disk as a bar', 'img info base.qcow2', /extended l2/)
  await shoot(
    'completion',
    'the options of a format are completed',
    'img create -f qcow2 -o c',
    /compression_type/,
    false,
  )
  await shoot(
    'progress',
    'img convert -p shows how far it is',
    'img convert -p -c -f raw -O qcow2 server.raw out.qcow2',
    /\([2-7]\d\.\d+\/100%\)/,
  )
} finally {
  await tmux('kill-server').catch(() => undefined)
  rmSync(folder, { recursive: true })
}
