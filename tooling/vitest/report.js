// Sums the reports that the last run of all tests left: the tests that did not pass, a line about each package, then
// "N passed, N failed, N skipped". Arguments are other steps that failed; each counts as one failure.
import process from 'node:process'
import { readReports, testedPackages } from './reports.js'
import { notPassed, sumReports } from './summary.js'

const reports = readReports(testedPackages(process.cwd()))
const { lines, total } = sumReports(reports)
// A failed run of the tests counts by its tests, unless it failed without a failed test.
const steps = process.argv.slice(2).filter((name) => name !== 'tests' || total.failed === 0)
const failed = total.failed + steps.length
const text = [...notPassed(reports), ...steps.map((name) => `failed  ${name}`), ...lines]
process.stdout.write(`${text.join('\n')}\n`)
process.stdout.write(`${total.passed} passed, ${failed} failed, ${total.skipped} skipped\n`)
process.exitCode = failed === 0 ? 0 : 1
