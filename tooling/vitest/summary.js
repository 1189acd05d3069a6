/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 *
 * @typedef {object} Report what vitest's JSON reporter writes, as far as it is read here
 * @property {number} numPassedTests
 * @property {number} numFailedTests
 * @property {number} numPendingTests
 * @property {number} numTodoTests
 * @property {{ name: string, status: string, assertionResults: { status: string, fullName: string }[] }[]} testResults
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

/**
 * A line for each test that did not pass, failures last.
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
      for (const { status, fullName } of tests) {
        const [list, word] = status === 'failed' ? [failed, 'failed'] : [skipped, 'skipped']
        list.push(`${word}  ${name}: ${fullName}`)
      }
      if (file.status === 'failed' && !tests.some(({ status }) => status === 'failed')) {
        failed.push(`failed  ${name}: ${file.name} does not load`)
      }
    }
  }
  return [...skipped, ...failed]
}
