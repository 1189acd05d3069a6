// pnpm test: builds, runs the tests of every package, and ends with their sum. Arguments go to turbo (--filter=…).
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import process from 'node:process'
import { readReports, removeReports, testedPackages } from './reports.js'
import { sumReports } from './summary.js'

const packages = testedPackages(process.cwd())
removeReports(packages)

const selection = process.argv.slice(2)
const concurrency = Math.max(1, Math.floor(availableParallelism() / 2))
const turbo = spawnSync(
  'turbo',
  ['run', 'test', '--continue', `--concurrency=${concurrency}`, ...selection],
  {
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  },
)
if (turbo.error) throw turbo.error

const reports = readReports(packages)
// With a selection, a package without a report was not meant to run.
const { lines, total } = sumReports(
  selection.length > 0 ? reports.filter(({ report }) => report !== undefined) : reports,
)
process.stdout.write(`\n${lines.join('\n')}\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = turbo.status === 0 && total.failed === 0 ? 0 : 1
