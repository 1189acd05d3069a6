import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'

/** Where a package's tests leave vitest's JSON report. */
const reportPath = join('test-results', 'vitest.json')

/**
 * Folders of the workspace's packages that have tests.
 * @param {string} root
 * @returns {{ name: string, dir: string }[]} `name`: the folder relative to the root
 */
export function testedPackages(root) {
  return ['packages', 'apps', 'tooling']
    .flatMap((parent) => readdirSync(join(root, parent)).map((name) => join(root, parent, name)))
    .filter((dir) => {
      const manifest = join(dir, 'package.json')
      return existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).scripts?.test
    })
    .map((dir) => ({ name: relative(root, dir), dir }))
}

/**
 * Removes the reports of an earlier run, so that none is taken for a new one.
 * @param {readonly { dir: string }[]} packages
 */
export function removeReports(packages) {
  for (const { dir } of packages) rmSync(join(dir, reportPath), { force: true })
}

/**
 * @param {readonly { name: string, dir: string }[]} packages
 * @returns {{ name: string, report: import('./summary.js').Report | undefined }[]}
 */
export function readReports(packages) {
  return packages.map(({ name, dir }) => {
    const path = join(dir, reportPath)
    return { name, report: existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined }
  })
}
