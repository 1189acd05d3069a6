import { expect, test } from 'vitest'
import { countsOf, sumReports } from '../summary.js'

const report = {
  numPassedTests: 3,
  numFailedTests: 1,
  numPendingTests: 2,
  numTodoTests: 1,
  testResults: [
    { status: 'failed', assertionResults: [{ status: 'failed' }, { status: 'passed' }] },
    { status: 'failed', assertionResults: [] },
    { status: 'passed', assertionResults: [{ status: 'passed' }] },
  ],
}

test('a file that does not load is a failure beside the failed tests', () => {
  expect(countsOf(report)).toEqual({ passed: 3, failed: 2, skipped: 3 })
})

test('the sum counts a missing report as a failure', () => {
  const { lines, total } = sumReports([
    { name: 'packages/raw', report },
    { name: 'apps/cli', report: undefined },
  ])
  expect(lines).toEqual(['packages/raw  3 passed, 2 failed, 3 skipped', 'apps/cli      left no report'])
  expect(total).toEqual({ passed: 3, failed: 3, skipped: 3 })
})
