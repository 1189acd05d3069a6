// Stops a release while the npm scope is not ours: see docs/decisions/0006-npm-scope.md.
import { readFileSync } from 'node:fs'
import process from 'node:process'

const { img } = JSON.parse(readFileSync('package.json', 'utf8'))
if (img?.scopeSettled !== true) {
  process.stderr.write(
    `The npm scope ${img?.scope} is not settled: nothing is published. See docs/decisions/0006-npm-scope.md.\n`,
  )
  process.exitCode = 1
}
