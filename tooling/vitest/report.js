// Sums the reports that the last run of all tests left: the tests that did not pass, a line about each package, then
// "N passed, N failed, N skipped".
import process from 'node:process'
import { readReports, testedPackages } from './reports.js'
import { notPassed, sumReports } from './summary.js'

const reports = readReports(testedPackages(process.cwd()))
const { lines, total } = sumReports(reports)
process.stdout.write(`${[...notPassed(reports), ...lines].join('\n')}\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = total.failed === 0 ? 0 : 1
