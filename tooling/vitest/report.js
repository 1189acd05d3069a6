// Sums the reports that the last run of all tests left: a line about each package, then "N passed, N failed, N skipped".
import process from 'node:process'
import { readReports, testedPackages } from './reports.js'
import { sumReports } from './summary.js'

const { lines, total } = sumReports(readReports(testedPackages(process.cwd())))
process.stdout.write(`${lines.join('\n')}\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = total.failed === 0 ? 0 : 1
