// A terminal's text with its colours (tmux capture-pane -e) as an SVG.

const palette = ['#0c0c0c', '#e05561', '#7fbf6a', '#d9a343', '#5c9ee6', '#c678dd', '#45b5c4', '#cccccc']
const foreground = '#d8d8d8'
const background = '#16181d'
const cell = { width: 8.4, height: 18 }
const margin = 14
const sgr = new RegExp(`(${String.fromCharCode(27)}\\[[\\d;]*m)`)

/**
 * Text without colours.
 * @param {string} text
 */
export function withoutColours(text) {
  return text
    .split(sgr)
    .filter((part) => !sgr.test(part))
    .join('')
}

/**
 * @typedef {object} Run characters of one look
 * @property {number} column
 * @property {string} text
 * @property {string} colour
 * @property {boolean} bold
 * @property {boolean} dim
 */

/**
 * The runs of a line, by its SGR sequences.
 * @param {string} line
 * @returns {Run[]}
 */
export function runsOf(line) {
  /** @type {Run[]} */
  const runs = []
  let look = { colour: foreground, bold: false, dim: false }
  let column = 0
  for (const part of line.split(sgr)) {
    if (!sgr.test(part)) {
      if (part !== '') runs.push({ ...look, column, text: part })
      column += [...part].length
      continue
    }
    for (const code of part.slice(2, -1).split(';').map(Number)) {
      if (code === 0) look = { colour: foreground, bold: false, dim: false }
      else if (code === 1) look = { ...look, bold: true }
      else if (code === 2) look = { ...look, dim: true }
      else if (code === 22) look = { ...look, bold: false, dim: false }
      else if (code === 39) look = { ...look, colour: foreground }
      else if (code >= 30 && code <= 37) look = { ...look, colour: palette[code - 30] ?? foreground }
      else if (code >= 90 && code <= 97) look = { ...look, colour: palette[code - 90] ?? foreground }
    }
  }
  return runs
}

/**
 * @param {string} text lines with SGR sequences
 * @param {number} columns
 * @param {string} title what is seen, for those who do not see it
 */
export function terminalSvg(text, columns, title) {
  const lines = text.replace(/\s+$/, '').split('\n')
  const width = Math.ceil(columns * cell.width + 2 * margin)
  const height = lines.length * cell.height + 2 * margin
  const drawn = lines.flatMap((line, row) =>
    runsOf(line)
      .filter((run) => run.text.trim() !== '')
      .map((run) => {
        const x = (margin + run.column * cell.width).toFixed(1)
        const y = margin + row * cell.height + 13
        const length = ([...run.text].length * cell.width).toFixed(1)
        const style = `${run.bold ? ' font-weight="bold"' : ''}${run.dim ? ' opacity="0.55"' : ''}`
        return `<text x="${x}" y="${y}" fill="${run.colour}" textLength="${length}"${style}>${escaped(run.text)}</text>`
      }),
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" rx="8" fill="${background}"/>
<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">
${drawn.join('\n')}
</g>
</svg>
`
}

/** @param {string} text */
function escaped(text) {
  // Browsers make one of several spaces.
  return text.replace(/ /g, '\u00a0').replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
}
