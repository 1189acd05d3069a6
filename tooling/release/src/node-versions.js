// pnpm node-versions: the built command converts and reports under each supported line of Node.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { assert, run } from './run.js'
import { sha256, writeSampleDisk } from './sample.js'

const lines = ['22', '24', '26']
const img = join(process.cwd(), 'apps', 'cli', 'dist', 'img.js')

/**
 * Path of a Node of that line, brought by npx; the reason where it cannot be had.
 * @param {string} line
 * @returns {Promise<{ path: string } | { reason: string }>}
 */
async function findNode(line) {
  try {
    const { stdout } = await run('npx', ['-y', `node@${line}`, '-p', 'process.execPath'], { cwd: tmpdir() })
    return { path: stdout.trim() }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    return { reason: text.trim().split('\n').at(-1) ?? '' }
  }
}

/**
 * Raw to qcow2 in each compression and back, `info` in between.
 * @param {string} node
 * @param {string} dir
 */
async function convertAndReport(node, dir) {
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
    await run(node, [img, 'convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, qcow2])
    const { stdout } = await run(node, [img, 'info', '--output=json', qcow2])
    const info = JSON.parse(stdout)
    assert(info.format === 'qcow2', `${name}: info says format ${info.format}`)
    await run(node, [img, 'convert', '-O', 'raw', qcow2, back])
    const size = info['virtual-size']
    assert(sha256(back) === sha256(raw), `${name}: the disk of ${size} bytes came back different`)
  }
}

/** @type {{ name: string, path: string }[]} */
const found = [{ name: process.version, path: process.execPath }]
for (const line of lines) {
  const node = await findNode(line)
  if ('path' in node) found.push({ name: (await run(node.path, ['-v'])).stdout.trim(), path: node.path })
  else process.stdout.write(`node ${line}: SKIPPED, cannot be had here: ${node.reason}\n`)
}
const dir = mkdtempSync(join(tmpdir(), 'img-node-versions-'))
try {
  for (const { name, path } of found) {
    const place = join(dir, name)
    mkdirSync(place, { recursive: true })
    try {
      await convertAndReport(path, place)
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
