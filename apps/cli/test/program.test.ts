import { describe, expect, it } from 'vitest'
import { describeError } from '../src/errors.js'
import { parseProgram, type Run } from '../src/program.js'
import { verbs as allVerbs } from '../src/verbs/index.js'

async function run(...args: string[]): Promise<Run> {
  const parsed = await parseProgram(args)
  if ('text' in parsed) throw new Error(`a text: ${parsed.text}`)
  return parsed
}

async function text(...args: string[]): Promise<string> {
  const parsed = await parseProgram(args)
  if (!('text' in parsed)) throw new Error('no text')
  return parsed.text
}

/** What would be printed for a command line that is not understood. */
async function refusal(...args: string[]): Promise<string> {
  const error = await parseProgram(args).then(
    () => new Error('understood'),
    (reason: unknown) => reason,
  )
  return describeError(error)
}

const tryHelp = "Try 'img --help' for more information\n"

/** Those for people. */
const verbs = allVerbs.filter(({ hidden }) => hidden !== true)

describe('options, as getopt takes them', () => {
  it('joins short flags, the last with its value', async () => {
    const { invocation } = await run('convert', '-pqf', 'raw', '-Oqcow2', '-S0', 'a', 'b')
    expect(invocation.options).toMatchObject({ p: true, q: true, f: 'raw', O: 'qcow2', S: '0' })
    expect(invocation.operands).toEqual(['a', 'b'])
  })

  it('takes options between and after operands, the last of several', async () => {
    const { invocation } = await run('info', 'a', '--output', 'human', '-U', '--output=json')
    expect(invocation.options).toMatchObject({ output: 'json', forceShare: true })
    expect(invocation.operands).toEqual(['a'])
  })

  it('collects -o', async () => {
    const { invocation } = await run('create', '-o', 'a=1', '-o', 'b=2', 'x', '1M')
    expect(invocation.options.o).toEqual(['a=1', 'b=2'])
  })

  it('stops at --', async () => {
    const { invocation } = await run('info', '-U', '--', '-f')
    expect(invocation.operands).toEqual(['-f'])
  })

  it('takes - as an operand, and any value after an option that needs one', async () => {
    const { invocation } = await run('convert', '-f', '-x', '-', '-')
    expect(invocation.options.f).toBe('-x')
    expect(invocation.operands).toEqual(['-', '-'])
  })

  it('completes long options that are the only ones to begin so', async () => {
    const { invocation } = await run('map', '--out=json', '--start', '1k', 'a')
    expect(invocation.options).toMatchObject({ output: 'json', startOffset: '1k' })
    expect(await refusal('convert', '--target', 'a')).toContain("unrecognized option '--target'")
  })

  it.each([[['-1G']], [['+1G']], [['1G']]])('the last argument of resize is the size: %j', async ([size]) => {
    const { invocation } = await run('resize', '-f', 'raw', 'a', size as string)
    expect(invocation.operands).toEqual(['a', size])
    const shrinking = await run('resize', '--shrink', 'a', '--', size as string)
    expect(shrinking.invocation.operands).toEqual(['a', size])
  })

  it('takes global options before and after the verb', async () => {
    const { globals } = await run(
      '--plugin',
      'a',
      '--no-discovery',
      'info',
      'x',
      '--plugin',
      'b',
      '--allow-ref',
      '/d',
    )
    expect(globals).toEqual({ plugin: ['a', 'b'], discovery: false, allowRef: ['/d'] })
    expect((await run('info', 'x')).globals.discovery).toBe(true)
  })

  it('leaves -T and -h to the verbs', async () => {
    expect((await run('convert', '-T', 'none', 'a', 'b')).invocation.options.T).toBe('none')
  })
})

describe('refusals', () => {
  it.each([
    [[], `img: Not enough arguments\n${tryHelp}`],
    [['--foo'], `img: unrecognized option '--foo'\n${tryHelp}`],
    [['-q', 'info'], `img: unrecognized option '-q'\n${tryHelp}`],
    [['info', '-f'], `img: missing argument for option '-f'\n${tryHelp}`],
    [['info', '--output'], `img: missing argument for option '--output'\n${tryHelp}`],
    [['info', '-zU', 'a'], `img: unrecognized option '-zU'\n${tryHelp}`],
    [['compare', '--foo', 'a', 'b'], `img: unrecognized option '--foo'\n${tryHelp}`],
    [['convrt'], `img: Command not found: convrt\n${tryHelp}img: hint: did you mean convert?\n`],
    [
      ['info', '--detials', 'a'],
      `img: unrecognized option '--detials'\n${tryHelp}img: hint: did you mean --details?\n`,
    ],
    [
      ['info', '--outptu=json', 'a'],
      `img: unrecognized option '--outptu=json'\n${tryHelp}img: hint: did you mean --output?\n`,
    ],
  ])('%j', async (args, expected) => {
    expect(await refusal(...args)).toBe(expected)
  })

  it('lists the verbs for one that is like none', async () => {
    expect(await refusal('nosuch')).toBe(
      `img: Command not found: nosuch\n${tryHelp}img: hint: there are: ${verbs.map(({ name }) => name).join(', ')}\n`,
    )
  })
})

describe('help', () => {
  it.each([['--help'], ['-h'], ['help']])('img %s lists all verbs', async (arg) => {
    const help = await text(arg)
    for (const { name, summary } of verbs) expect(help).toMatch(new RegExp(`^  ${name} +${summary}$`, 'm'))
  })

  it.each(verbs.map(({ name }) => name))('img %s --help tells of every option', async (name) => {
    const help = await text(name, '--help')
    expect(help).toMatch(new RegExp(`^Usage: img ${name} \\[options\\]`))
    expect(help).toContain('--plugin <spec>')
    expect(await text('help', name)).toBe(help)
    expect(await text(name, '-h')).toBe(help)
  })

  it('tells the version', async () => {
    expect(await text('--version')).toMatch(/^img version \d+\.\d+\.\d+/)
    expect(await text('-V')).toBe(await text('--version'))
  })
})
