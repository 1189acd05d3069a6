import { isTerminal } from './terminal.js'

/** What may be drawn on standard output. */
export interface TerminalStyle {
  /** Characters in a line. */
  readonly width: number
  readonly colour: boolean
  /** Block characters; else ASCII. */
  readonly unicode: boolean
}

/** `--color`: `auto` colours on a terminal where NO_COLOR is not set. */
export type ColourWhen = 'auto' | 'always' | 'never'

/** Where lines are not cut by a terminal. */
const usualWidth = 80
const narrowest = 40
/** Wider than this, nobody follows a line. */
const widest = 200

/** The style of standard output. https://no-color.org: any value of NO_COLOR but an empty one means no colour. */
export function terminalStyle(
  when: ColourWhen = 'auto',
  env: NodeJS.ProcessEnv = process.env,
): TerminalStyle {
  const terminal = isTerminal(1)
  const plain = (env.NO_COLOR ?? '') !== '' || env.TERM === 'dumb'
  return {
    width: Math.min(widest, Math.max(narrowest, widthOf(terminal, env))),
    colour: when === 'always' || (when === 'auto' && terminal && !plain),
    unicode: isUnicode(env),
  }
}

function widthOf(terminal: boolean, env: NodeJS.ProcessEnv): number {
  const named = Number(env.COLUMNS)
  if (Number.isSafeInteger(named) && named > 0) return named
  // The terminal is only asked where there is one: `process.stdout` costs time.
  const columns = terminal ? process.stdout.columns : undefined
  return columns !== undefined && columns > 0 ? columns : usualWidth
}

function isUnicode(env: NodeJS.ProcessEnv): boolean {
  if (process.platform === 'win32') return env.WT_SESSION !== undefined || env.TERM_PROGRAM === 'vscode'
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  return /utf-?8/i.test(locale)
}
