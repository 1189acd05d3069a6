import { Command } from 'commander'
import { verbs } from '../../src/verbs/index.js'
import { formats } from './lines.js'
import { type ParityRun, parityRuns } from './run.js'

/** A verb of qemu-img with the flags and operands in its line of `qemu-img --help`. */
export interface QemuVerb {
  readonly name: string
  readonly flags: readonly string[]
}

/** Verbs and flags from `qemu-img --help`. */
export function parseHelp(help: string): readonly QemuVerb[] {
  const [, syntax = ''] = /\nCommand syntax:\n(.*?)\n\n/s.exec(help) ?? []
  return syntax.split('\n').map((line) => {
    const [name = ''] = line.trim().split(' ')
    const flags = line.match(/(?<=[\s[(|])(--?[A-Za-z][a-z-]*|bs=|count=|skip=|if=|of=)/g) ?? []
    return { name, flags: [...new Set(flags)] }
  })
}

/** Spellings of one flag. */
const aliases: Readonly<Record<string, readonly string[]>> = {
  '--start-offset': ['-s'],
  '--max-length': ['-l'],
}

function has(run: ParityRun, verb: string, flag: string): boolean {
  if (run.words[0] !== verb) return false
  const spellings = [flag, ...(verb === 'map' ? (aliases[flag] ?? []) : [])]
  return run.words.some((word) =>
    spellings.some((each) => word === each || word.startsWith(each.endsWith('=') ? each : `${each}=`)),
  )
}

/** Formats in a few words. */
function formatsOf(runs: readonly ParityRun[]): string {
  const named = new Set(
    runs.flatMap(
      ({ format, line }) => format ?? formats.filter((each) => new RegExp(`\\b${each}\\b`).test(line)),
    ),
  )
  if (formats.every((each) => named.has(each))) return 'all'
  return formats.filter((each) => named.has(each)).join(', ')
}

/** What differs, and why, each reason once. */
function differencesOf(runs: readonly ParityRun[]): string {
  const reasons = new Map<string, string[]>()
  for (const { difference, format } of runs) {
    if (difference === undefined) continue
    const known = reasons.get(difference) ?? []
    if (format !== undefined && !known.includes(format)) known.push(format)
    reasons.set(difference, known)
  }
  return [...reasons]
    .map(([reason, of]) =>
      of.length === 0 || of.length === formats.length ? reason : `${of.join(', ')}: ${reason}`,
    )
    .join('; ')
}

/** True where img knows the flag of that verb. */
async function known(verb: string, flag: string): Promise<boolean> {
  const found = verbs.find(({ name }) => name === verb)
  if (found === undefined) return false
  if (flag.endsWith('=')) return true
  const command = new Command()
  ;(await found.load()).define(command)
  return command.options.some(({ short, long }) => short === flag || long === flag)
}

/** The page: one row for each flag of each verb. */
export async function parityPage(qemu: readonly QemuVerb[]): Promise<string> {
  const runs = parityRuns()
  const rows: string[] = []
  for (const { name, flags } of qemu) {
    const plain = runs.filter(({ words }) => words[0] === name && !words.some((word) => word.startsWith('-')))
    const row = async (flag: string, compared: readonly ParityRun[]): Promise<void> => {
      const cell = compared.length === 0 ? '' : `${compared.length}`
      const flagCell = flag === '' ? '' : `\`${flag}\``
      const is = flag === '' || (await known(name, flag)) ? '' : 'unknown'
      rows.push(
        `| \`${name}\` | ${flagCell} | ${is || cell} | ${formatsOf(compared)} | ${differencesOf(compared)} |`,
      )
    }
    if (plain.length > 0) await row('', plain)
    for (const flag of flags)
      await row(
        flag,
        runs.filter((run) => has(run, name, flag)),
      )
  }
  return `# Verbs and flags of qemu-img

Made by \`apps/cli/test/parity-table.test.ts\` from \`qemu-img --help\` (version 7.2) and the command lines in
\`apps/cli/test/parity/lines.ts\`; \`IMG_WRITE_PARITY=1 npx vitest run test/parity-table.test.ts\` in \`apps/cli\` writes it anew.

Each of those lines is run by both programs, each in its own copy of one directory, and compared byte for byte: exit code,
standard output, standard error. Then all images left behind are compared by content. The column "lines" counts the runs with
that flag, "formats" tells for which of ${formats.join(', ')}. What is left out of the comparison: the program's name before
messages, sizes on the host, content ids of VMDK, times of \`bench\`, and the lines \`img: hint:\` and \`img: detail:\`, which img
adds. A difference is compared as well: it has to be there.

More is compared on images that other programs made: \`info\`, \`map\`, \`check\` and \`measure\` in
\`apps/cli/test/fixture-parity.test.ts\`, recorded sessions in \`behaviours.test.ts\`, refusals in \`twins.test.ts\`.

| verb | flag | lines | formats | differences |
|---|---|---|---|---|
${rows.join('\n')}

\`-h\`, \`--help\`, \`-V\`, \`--version\` and \`-T\`, \`--trace\` before the verb are taken too; img's help is its own, and nothing is
traced.
`
}
