// pnpm test: builds, runs the tests of every package, and ends with their sum. Arguments go to turbo (--filter=…).
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import process from 'node:process'
import { sumReports } from './summary.js'

const root = process.cwd()
const reportPath = join('test-results', 'vitest.json')
const dirs = ['packages', 'apps', 'tooling'].flatMap((parent) =>
  readdirSync(join(root, parent)).map((name) => join(root, parent, name)),
)
const tested = dirs.filter((dir) => {
  const manifest = join(dir, 'package.json')
  return existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).scripts?.test
})
for (const dir of tested) rmSync(join(dir, reportPath), { force: true })

const filtered = process.argv.slice(2)
const concurrency = Math.max(1, Math.floor(availableParallelism() / 2))
const turbo = spawnSync('turbo', ['run', 'test', '--continue', `--concurrency=${concurrency}`, ...filtered], {
  stdio: ['ignore', 'inherit', 'inherit'],
  shell: process.platform === 'win32',
})
if (turbo.error) throw turbo.error

const reports = tested.flatMap((dir) => {
  const path = join(dir, reportPath)
  if (existsSync(path)) return [{ name: relative(root, dir), report: JSON.parse(readFileSync(path, 'utf8')) }]
  return filtered.length > 0 ? [] : [{ name: relative(root, dir), report: undefined }]
})
const { lines, total } = sumReports(reports)
process.stdout.write(`\n${lines.join('\n')}\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = turbo.status === 0 && total.failed === 0 ? 0 : 1
