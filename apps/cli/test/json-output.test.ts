import { beforeAll, expect, it } from 'vitest'
import { mustImg, temporaryDirectory } from './support/cli.js'

const run = { cwd: temporaryDirectory() }

beforeAll(async () => {
  await mustImg(['create', '-q', '-f', 'qcow2', 'base.qcow2', '1M'], run)
  await mustImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], run)
})

it.each([
  ['create', '-f', 'raw', 'new.raw', '1M'],
  ['create', '-f', 'lvm', '--lv', 'root=4M', 'group.raw', '16M'],
  ['resize', 'base.qcow2', '2M'],
  ['commit', 'top.qcow2'],
  ['compact', 'base.qcow2'],
  ['lvm', 'rename', 'group.raw', 'root', 'home'],
])('prints nothing with --json where there is only success to tell of: %s', async (...args) => {
  expect(await mustImg(['--json', ...args], run)).toBe('')
})

it('prints what a dry run would do, and what bench found, as JSON with --json', async () => {
  expect(JSON.parse(await mustImg(['resize', '--json', '--dry-run', 'base.qcow2', '64M'], run))).toEqual({
    'dry-run': true,
    would: ['Image would be resized from 2 MiB to 64 MiB (67108864 bytes).'],
    files: [
      {
        filename: 'base.qcow2',
        written: expect.any(Number),
        'file-size': expect.any(Number),
        'new-file-size': expect.any(Number),
      },
    ],
  })
  const bench = ['bench', '--json', '-c', '10', '-d', '2', '-f', 'qcow2', 'base.qcow2']
  expect(JSON.parse(await mustImg(bench, run))).toEqual({
    kind: 'read',
    count: 10,
    depth: 2,
    length: 4096,
    offset: 0,
    step: 4096,
    seconds: expect.any(Number),
  })
})
