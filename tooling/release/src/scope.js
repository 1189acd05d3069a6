// pnpm scope @new: writes another npm scope into every tracked text file that names the present one.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

/** History keeps the name that it had. */
const history = /(^|\/)(CHANGELOG\.md|docs\/decisions\/.*)$/

/**
 * `text` with the npm scope `from` replaced by `to` wherever it stands as a scope: `@img/core`, `"@img"`.
 * @param {string} text
 * @param {string} from
 * @param {string} to
 */
export function replaceScope(text, from, to) {
  return text.replace(new RegExp(`(?<![\\w@-])${from}(?=[/"'\`])`, 'g'), to)
}

/**
 * Replaces the scope in all tracked files of the repository at `root`, and returns the paths changed.
 * @param {string} root
 * @param {string} to
 */
export function renameScope(root, to) {
  if (!/^@[a-z0-9][a-z0-9._-]*$/.test(to)) throw new RangeError(`'${to}' is not an npm scope such as @img`)
  const from = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).img.scope
  const tracked = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 })
  return tracked
    .split('\0')
    .filter((path) => path && !history.test(path))
    .filter((path) => {
      const bytes = readFileSync(join(root, path))
      if (bytes.includes(0)) return false
      const before = bytes.toString('utf8')
      const after = replaceScope(before, from, to)
      if (after !== before) writeFileSync(join(root, path), after)
      return after !== before
    })
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [to] = process.argv.slice(2)
  if (!to) throw new RangeError('usage: pnpm scope @new')
  const changed = renameScope(process.cwd(), to)
  process.stdout.write(`${changed.length} files changed; now run: pnpm install && pnpm build && pnpm lint\n`)
}
