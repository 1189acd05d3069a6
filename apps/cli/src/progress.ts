import { constants } from 'node:os'
import type { Progress } from '@img/core'
import { printErr } from './output/write.js'
import { humanSize, twoDecimals } from './sizes.js'
import { isTerminal } from './terminal.js'

/** Values of `--progress`. */
export const progressModes = ['auto', 'json', 'plain', 'none'] as const

/** How progress is shown: `auto` is a line on a terminal that is written anew, and nothing elsewhere. */
export type ProgressMode = (typeof progressModes)[number]

/** Shows how far a job is. */
export interface ProgressMeter {
  /** Given to jobs; cheap. */
  readonly update: (progress: Progress) => void
  /** Ends the line. `complete`: shows 100%. Idempotent. */
  end(complete: boolean): void
}

interface State {
  readonly progress: Progress
  /** Seconds since the phase began. */
  readonly elapsed: number
  /** Bytes a second. */
  readonly rate: number
  /** Seconds; undefined where it cannot be told. */
  readonly left: number | undefined
  /** Undefined where the end is not known. */
  readonly percent: number | undefined
}

/** Milliseconds between two outputs. */
const intervals = { terminal: 100, json: 250, plain: 2000 }
type Style = keyof typeof intervals

/**
 * A meter on stderr in the mode asked for; one that does nothing where nothing is to be shown. `endless`: the total that
 * jobs tell is only what is done, as of a pipe.
 */
export function progressMeter(
  mode: ProgressMode | undefined,
  wanted: boolean,
  endless = false,
): ProgressMeter {
  const style = styleOf(mode ?? (wanted ? 'auto' : 'none'))
  return style === undefined ? onSignal(endless) : new Meter(style, endless)
}

/** Shows nothing, until SIGUSR1 (or SIGINFO, where there is one) asks how far it is: then one line, as qemu-img does. */
function onSignal(endless: boolean): ProgressMeter {
  let last: Progress | undefined
  const show = (): void => {
    const { done, total } = last ?? { done: 0, total: 0 }
    const share = total === 0 ? 0 : (100 * done) / total
    const percent = endless ? humanSize(done) : `(${twoDecimals(share)}/100%)`
    printErr(`    ${percent}\n`)
  }
  const signals = ['SIGUSR1', 'SIGINFO'].filter((name) => name in constants.signals) as NodeJS.Signals[]
  for (const name of signals) process.on(name, show)
  return {
    update: (progress) => {
      last = progress
    },
    end: () => {
      for (const name of signals) process.off(name, show)
    },
  }
}

function styleOf(mode: ProgressMode): Style | undefined {
  if (mode === 'json' || mode === 'plain') return mode
  return mode === 'auto' && isTerminal(2) && process.env.TERM !== 'dumb' ? 'terminal' : undefined
}

class Meter implements ProgressMeter {
  readonly #style: Style
  readonly #endless: boolean
  #phase: string | undefined
  #began = 0
  #due = 0
  #last: Progress | undefined
  #shown: Progress | undefined

  constructor(style: Style, endless: boolean) {
    this.#style = style
    this.#endless = endless
  }

  readonly update = (progress: Progress): void => {
    const now = performance.now()
    if (progress.phase !== this.#phase) {
      if (this.#last !== undefined) this.#show(this.#last, now)
      this.#phase = progress.phase
      this.#began = now
      this.#due = now
    }
    this.#last = progress
    if (now >= this.#due) this.#show(progress, now)
  }

  end(complete: boolean): void {
    const last = this.#last
    if (last === undefined) return
    if (complete) this.#show({ ...last, done: last.total }, performance.now(), true)
    if (this.#style === 'terminal') printErr('\n')
    this.#last = undefined
  }

  #show(progress: Progress, now: number, last = false): void {
    this.#due = now + intervals[this.#style]
    const { done, phase } = progress
    if (this.#shown?.done === done && this.#shown.phase === phase && !(last && this.#endless)) return
    this.#shown = progress
    const state = describe(progress, (now - this.#began) / 1000, this.#endless && !last)
    if (this.#style === 'json') printErr(`${jsonLine(state)}\n`)
    else if (this.#style === 'plain') printErr(`${plainLine(state)}\n`)
    else printErr(`\r${fit(plainLine(state))}\u001b[K`)
  }
}

function describe(progress: Progress, elapsed: number, endless: boolean): State {
  const { done, total } = progress
  const rate = elapsed > 0 ? done / elapsed : 0
  const left = rate > 0 && total >= done ? (total - done) / rate : undefined
  if (endless) return { progress, elapsed, rate, left: undefined, percent: undefined }
  return { progress, elapsed, rate, left, percent: total > 0 ? (100 * done) / total : 100 }
}

/** One line of `--progress=json`. Bytes, seconds, bytes a second. */
export function jsonLine({ progress, elapsed, rate, left, percent }: State): string {
  const { done, total, unit, phase } = progress
  return JSON.stringify({
    done,
    total: percent === undefined ? null : total,
    unit,
    phase,
    percent: percent === undefined ? null : rounded(percent, 2),
    elapsed: rounded(elapsed, 3),
    rate: Math.round(rate),
    left: left === undefined ? null : rounded(left, 1),
  })
}

/** Progress for people: qemu-img's percentage, then rate and time left. */
export function plainLine({ progress, rate, left, percent }: State): string {
  const share = percent === undefined ? humanSize(progress.done) : `(${twoDecimals(percent)}/100%)`
  const parts = [`    ${share}`, progress.phase]
  if (rate > 0) parts.push(`${humanSize(Math.round(rate))}/s`)
  if (left !== undefined && left >= 0.5) parts.push(`${duration(left)} left`)
  return parts.join('  ')
}

/** `12 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

function rounded(value: number, decimals: number): number {
  return Number(value.toFixed(decimals))
}

function fit(text: string): string {
  // 0 where the terminal does not say.
  const columns = process.stderr.columns || 80
  return text.length < columns ? text : text.slice(0, Math.max(0, columns - 1))
}
