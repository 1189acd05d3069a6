/**
 * @typedef {object} Block a code block of a tutorial
 * @property {number} line where it starts, 1-based
 * @property {string | undefined} file path of the file that it is; undefined for commands
 * @property {string} text
 */

/**
 * The code blocks of a Markdown text, in order.
 * @param {string} markdown
 * @returns {Block[]}
 * @throws {Error} for a block that is neither a file (```ts file=src/a.ts) nor commands (```sh): nothing would run it
 */
export function tutorialBlocks(markdown) {
  /** @type {Block[]} */
  const blocks = []
  /** @type {{ line: number, file: string | undefined, lines: string[] } | undefined} */
  let open
  for (const [index, text] of markdown.split('\n').entries()) {
    if (open && text === '```') {
      blocks.push({ line: open.line, file: open.file, text: open.lines.map((line) => `${line}\n`).join('') })
      open = undefined
    } else if (open) open.lines.push(text)
    else if (text.trimStart().startsWith('```')) {
      const info = /^```(?:sh|\w+ file=([\w./-]+))$/.exec(text)
      if (!info)
        throw new Error(`line ${index + 1}: '${text}' is neither a file nor commands, so nothing runs it`)
      open = { line: index + 1, file: info[1], lines: [] }
    }
  }
  if (open) throw new Error(`line ${open.line}: the block does not end`)
  return blocks
}
