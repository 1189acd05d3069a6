import { humanSize } from '../sizes.js'
import type { TerminalStyle } from '../terminal-style.js'
import { type Cell, type Kind, kinds, type Picture } from './cells.js'

interface Look {
  readonly block: string
  readonly letter: string
  /** SGR parameters. */
  readonly colour: string
  readonly name: string
}

const looks: Readonly<Record<Kind, Look>> = {
  data: { block: '█', letter: '#', colour: '32', name: 'data' },
  compressed: { block: '▓', letter: 'c', colour: '35', name: 'compressed' },
  backing: { block: '▒', letter: 'b', colour: '34', name: 'from backing files' },
  zero: { block: '░', letter: '0', colour: '36', name: 'zeros' },
  empty: { block: '·', letter: '.', colour: '2', name: 'not allocated' },
}
/** Data that does not fill its cell. */
const part = { block: '▄', letter: '+' } as const
/** Room for the offset before each line. */
const labelWidth = 10

/** Cells that fit in a line. */
export function cellsInLine({ width }: TerminalStyle): number {
  return width - labelWidth
}

/** A picture as lines: where each begins, the cells, and a legend. `start`: the first byte of the range. */
export function drawPicture(
  { cells, cellBytes, bytes }: Picture,
  start: number,
  style: TerminalStyle,
): string {
  const inLine = cellsInLine(style)
  const lines: string[] = []
  for (let at = 0; at < cells.length; at += inLine) {
    const label = humanSize(start + at * cellBytes).padStart(labelWidth - 1)
    lines.push(`${label} ${paint(cells.slice(at, at + inLine), style)}`)
  }
  return `${[...lines, '', ...legend(bytes, cells, cellBytes, style)].join('\n')}\n`
}

function glyph({ kind, part: inPart }: Cell, { unicode }: TerminalStyle): string {
  const look = kind === 'data' && inPart ? part : looks[kind]
  return unicode ? look.block : look.letter
}

/** Neighbours of one colour share its codes. */
function paint(cells: readonly Cell[], style: TerminalStyle): string {
  let text = ''
  for (let i = 0; i < cells.length; ) {
    const { kind } = cells[i] as Cell
    let run = ''
    for (; cells[i]?.kind === kind; i++) run += glyph(cells[i] as Cell, style)
    text += coloured(run, kind, style)
  }
  return text
}

function coloured(text: string, kind: Kind, { colour }: TerminalStyle): string {
  return colour ? `\u001b[${looks[kind].colour}m${text}\u001b[0m` : text
}

function legend(
  bytes: Picture['bytes'],
  cells: readonly Cell[],
  cellBytes: number,
  style: TerminalStyle,
): string[] {
  const total = kinds.reduce((sum, kind) => sum + bytes[kind], 0)
  const entries = kinds
    .filter((kind) => bytes[kind] > 0)
    .map((kind) => {
      const share = ((bytes[kind] * 100) / total).toFixed(1)
      const text = `${looks[kind].name} ${humanSize(bytes[kind])} (${share}%)`
      return { sign: coloured(glyph({ kind, part: false }, style), kind, style), text }
    })
  if (cells.some(({ kind, part: inPart }) => kind === 'data' && inPart)) {
    const sign = coloured(glyph({ kind: 'data', part: true }, style), 'data', style)
    entries.push({ sign, text: 'data in part of it' })
  }
  entries.push({ sign: 'each', text: `${humanSize(cellBytes)}` })
  // As many in a line as fit.
  const lines: string[] = []
  let width = Number.POSITIVE_INFINITY
  for (const { sign, text } of entries) {
    const long = (sign === 'each' ? 4 : 1) + 1 + text.length
    if (width + 3 + long > style.width) {
      lines.push(`${sign} ${text}`)
      width = long
    } else {
      lines.push(`${lines.pop()}   ${sign} ${text}`)
      width += 3 + long
    }
  }
  return lines
}
