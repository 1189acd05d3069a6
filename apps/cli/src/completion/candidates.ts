/** One way to go on. */
export interface Candidate {
  /** The whole word, not only what is missing. */
  readonly word: string
  readonly help?: string | undefined
}

/** What a shell may offer for the word at the cursor. */
export interface Completion {
  readonly candidates: readonly Candidate[]
  /** File names fit, too: those that begin with what stands after `after`. */
  readonly files?: boolean | undefined
  /** What is offered is not the end of the word. */
  readonly open?: boolean | undefined
}

/** Nothing is known of this word. */
export const nothing: Completion = { candidates: [] }

/** Candidates for words, of which those that begin as typed are left. */
export function fitting(typed: string, candidates: Iterable<Candidate>): Candidate[] {
  return [...candidates].filter(({ word }) => word.startsWith(typed))
}

/**
 * As the scripts of the shells read it: `word<TAB>help` a line; the last line is a colon with `files`, `open` or both, separated by
 * a comma.
 */
export function completionText({ candidates, files, open }: Completion): string {
  const lines = candidates.map(({ word, help }) => (help === undefined ? word : `${word}\t${oneLine(help)}`))
  const flags = [...(files === true ? ['files'] : []), ...(open === true ? ['open'] : [])]
  return `${[...lines, `:${flags.join(',')}`].join('\n')}\n`
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}
