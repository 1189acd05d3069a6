import type { Outcome } from '../support/cli.js'
import { withoutExtras } from '../support/cli.js'
import { formats, lines, type ParityLine, placeholder } from './lines.js'

/** A line for one format, or for none where it says none. */
export interface ParityRun extends Omit<ParityLine, 'difference'> {
  readonly difference: string | undefined
  readonly words: readonly string[]
  readonly format: string | undefined
}

/** All lines, those with a placeholder for each format. */
export function parityRuns(): readonly ParityRun[] {
  return lines.flatMap((each): ParityRun[] => {
    const forFormat = (format: string | undefined): ParityRun => {
      const line = format === undefined ? each.line : each.line.replaceAll(placeholder, format)
      const { difference: why } = each
      const difference = typeof why === 'object' ? why[format as keyof typeof why] : why
      return { line, words: line.split(' '), format, difference }
    }
    return each.line.includes(placeholder) ? formats.map(forFormat) : [forFormat(undefined)]
  })
}

/** What is the same wherever and whenever it runs. */
export function comparable({ code, stdout, stderr }: Outcome): Outcome {
  return { code, stdout: normal(stdout), stderr: normal(withoutExtras(stderr)) }
}

function normal(text: string): string {
  return text
    .replaceAll(/^qemu-img: /gm, 'img: ')
    .replaceAll("Try 'qemu-img --help'", "Try 'img --help'")
    .replaceAll(/Run completed in [\d.]+ seconds/g, 'Run completed in N seconds')
    .replaceAll(/^img: warning: the secret .*\n/gm, '')
    .replaceAll(/"actual-size": \d+/g, '"actual-size": N')
    .replaceAll(/^disk size: .*$/gm, 'disk size: N')
    .replaceAll(/\bcid: \d+/g, 'cid: N')
    .replaceAll(/"cid": \d+/g, '"cid": N')
}
