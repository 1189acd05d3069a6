import { expect, test } from 'vitest'
import { countsOf, notPassed, sumReports } from '../summary.js'

const report = {
  numPassedTests: 3,
  numFailedTests: 1,
  numPendingTests: 2,
  numTodoTests: 1,
  testResults: [
    {
      name: '/a.test.ts',
      status: 'failed',
      assertionResults: [
        {
          status: 'failed',
          fullName: 'adds',
          failureMessages: ['AssertionError: expected 3\nto be 4\n\n    at a.test.ts:3:1'],
        },
        { status: 'passed', fullName: 'subtracts' },
      ],
    },
    { name: '/b.test.ts', status: 'failed', message: 'no such module', assertionResults: [] },
    {
      name: '/c.test.ts',
      status: 'passed',
      assertionResults: [{ status: 'pending', fullName: 'needs qemu-img' }],
    },
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

test('what did not pass is named, failures last and with what went wrong', () => {
  expect(notPassed([{ name: 'packages/raw', report }])).toEqual([
    'skipped  packages/raw: needs qemu-img',
    'failed  packages/raw: adds',
    '    AssertionError: expected 3',
    '    to be 4',
    '        at a.test.ts:3:1',
    'failed  packages/raw: /b.test.ts does not load',
    '    no such module',
  ])
})
