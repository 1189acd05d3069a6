// pnpm node-versions: the built command converts and reports under each supported line of Node.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { assert, cleanEnvironment, run } from './run.js'
import { sha256, writeSampleDisk } from './sample.js'

const lines = ['22', '24', '26']
const img = join(process.cwd(), 'apps', 'cli', 'dist', 'img.js')

/**
 * Path of a Node of that line, brought by npx; undefined with the reason where it cannot be had.
 * @param {string} line
 * @returns {{ path: string } | { reason: string }}
 */
function findNode(line) {
  const result = spawnSync('npx', ['-y', `node@${line}`, '-p', 'process.execPath'], {
    cwd: tmpdir(),
    env: cleanEnvironment(),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 180_000,
    shell: process.platform === 'win32',
  })
  const path = result.stdout?.trim()
  if (result.status === 0 && path) return { path }
  return { reason: (result.stderr || result.error?.message || 'no output').trim().split('\n').at(-1) ?? '' }
}

/**
 * Raw to qcow2 in each compression and back, `info` in between.
 * @param {string} node
 * @param {string} dir
 */
function convertAndReport(node, dir) {
  const raw = join(dir, 'disk.raw')
  writeSampleDisk(raw)
  const variants = {
    plain: [],
    zlib: ['-c'],
    zstd: ['-c', '-o', 'compression_type=zstd'],
  }
  for (const [name, options] of Object.entries(variants)) {
    const qcow2 = join(dir, `${name}.qcow2`)
    const back = join(dir, `${name}.raw`)
    run(node, [img, 'convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, qcow2])
    const info = JSON.parse(run(node, [img, 'info', '--output=json', qcow2]).stdout)
    assert(info.format === 'qcow2', `${name}: info says format ${info.format}`)
    run(node, [img, 'convert', '-O', 'raw', qcow2, back])
    const size = info['virtual-size']
    assert(sha256(back) === sha256(raw), `${name}: the disk of ${size} bytes came back different`)
  }
}

/** @type {{ name: string, path: string }[]} */
const found = [{ name: process.version, path: process.execPath }]
for (const line of lines) {
  const node = findNode(line)
  if ('path' in node) found.push({ name: run(node.path, ['-v']).stdout.trim(), path: node.path })
  else process.stdout.write(`node ${line}: SKIPPED, cannot be had here: ${node.reason}\n`)
}
const dir = mkdtempSync(join(tmpdir(), 'img-node-versions-'))
try {
  for (const { name, path } of found) {
    const place = join(dir, name)
    mkdirSync(place, { recursive: true })
    try {
      convertAndReport(path, place)
      process.stdout.write(`node ${name}: ok\n`)
    } catch (error) {
      process.stdout.write(
        `node ${name}: FAILED: ${error instanceof Error ? error.message : String(error)}\n`,
      )
      process.exitCode = 1
    }
  }
} finally {
  rmSync(dir, { recursive: true })
}
