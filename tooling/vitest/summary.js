import { stripVTControlCharacters } from 'node:util'

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 *
 * @typedef {object} Report what vitest's JSON reporter writes, as far as it is read here
 * @property {number} numPassedTests
 * @property {number} numFailedTests
 * @property {number} numPendingTests
 * @property {number} numTodoTests
 * @property {{ name: string, status: string, message?: string, assertionResults: { status: string, fullName: string, failureMessages?: string[] }[] }[]} testResults
 */

/**
 * Counts of one report. A file that failed without a failed test in it (it does not load) counts as one failure.
 * @param {Report} report
 * @returns {Counts}
 */
export function countsOf(report) {
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed'),
  )
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + report.numTodoTests,
  }
}

/**
 * Sum over the packages, and a line about each. A package whose run left no report counts as one failure.
 * @param {readonly { name: string, report: Report | undefined }[]} reports
 * @returns {{ lines: string[], total: Counts }}
 */
export function sumReports(reports) {
  const total = { passed: 0, failed: 0, skipped: 0 }
  const width = Math.max(0, ...reports.map(({ name }) => name.length))
  const lines = reports.map(({ name, report }) => {
    const counts = report ? countsOf(report) : { passed: 0, failed: 1, skipped: 0 }
    total.passed += counts.passed
    total.failed += counts.failed
    total.skipped += counts.skipped
    const text = `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`
    return `${name.padEnd(width)}  ${report ? text : 'left no report'}`
  })
  return { lines, total }
}

/** Lines of an error's message and stack that are printed. */
const messageLines = 12

/**
 * The beginnings of messages, indented.
 * @param {readonly string[]} messages
 * @returns {string[]}
 */
function indented(messages) {
  return messages.flatMap((message) =>
    stripVTControlCharacters(message)
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(0, messageLines)
      .map((line) => `    ${line}`),
  )
}

/**
 * A line for each test that did not pass, failures last, with what went wrong.
 * @param {readonly { name: string, report: Report | undefined }[]} reports
 * @returns {string[]}
 */
export function notPassed(reports) {
  /** @type {string[]} */
  const skipped = []
  /** @type {string[]} */
  const failed = []
  for (const { name, report } of reports) {
    for (const file of report?.testResults ?? []) {
      const tests = file.assertionResults.filter(({ status }) => status !== 'passed')
      for (const { status, fullName, failureMessages = [] } of tests) {
        if (status !== 'failed') skipped.push(`skipped  ${name}: ${fullName}`)
        else failed.push(`failed  ${name}: ${fullName}`, ...indented(failureMessages))
      }
      if (file.status === 'failed' && !tests.some(({ status }) => status === 'failed')) {
        failed.push(`failed  ${name}: ${file.name} does not load`, ...indented([file.message ?? '']))
      }
    }
  }
  return [...skipped, ...failed]
}
