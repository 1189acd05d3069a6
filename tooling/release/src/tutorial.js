// pnpm tutorial: follows docs/writing-a-format.md word for word, in an empty folder outside the workspace and with nothing but packed
// packages and the registry: each block is written as the file that it names, or run, in order.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { packAll } from './pack.js'
import { assert, run } from './run.js'
import { serveTarballs } from './tarball-server.js'
import { tutorialBlocks } from './tutorial-blocks.js'

const root = process.cwd()
const { scope } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).img
const tutorial = 'docs/writing-a-format.md'
const blocks = tutorialBlocks(readFileSync(join(root, tutorial), 'utf8'))
const temporary = mkdtempSync(join(tmpdir(), 'img-tutorial-'))
const tarballs = await packAll(root, join(temporary, 'tarballs'))
const server = await serveTarballs(Object.values(tarballs))
const env = { NO_COLOR: '1', FORCE_COLOR: '0' }

/**
 * Runs a block of commands; the first that fails ends it.
 * @param {string} dir
 * @param {import('./tutorial-blocks.js').Block} block
 */
async function execute(dir, { text, line }) {
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', text], { cwd: dir, seconds: 400, env })
  for (const command of text.trim().split('\n')) process.stdout.write(`line ${line}: ${command}: ok\n`)
  if (!/npm test/.test(text)) return
  const sum = /^ *Tests +.*$/m.exec(stdout)?.[0] ?? ''
  assert(/[1-9]\d* passed/.test(sum), `line ${line}: npm test ran nothing:\n${stdout}`)
  process.stdout.write(`${sum}\n`)
}

try {
  const dir = join(temporary, 'empty')
  mkdirSync(dir)
  writeFileSync(join(dir, '.npmrc'), `${scope}:registry=${server.url}\n`)
  for (const block of blocks) {
    if (block.file === undefined) await execute(dir, block)
    else {
      const path = join(dir, block.file)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, block.text)
    }
  }
  process.stdout.write(`${tutorial}: ${blocks.length} blocks, word for word: ok\n`)
} finally {
  await server.close()
  rmSync(temporary, { recursive: true })
}
