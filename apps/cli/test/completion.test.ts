import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'
import { completingImg, hasProgram, TypedShell } from './support/shell.js'

const cwd = temporaryDirectory()
const bin = completingImg(cwd)

/** What is offered after some words; the last is the one at the cursor. */
async function offered(...words: string[]): Promise<{ words: string[]; flags: string }> {
  const { code, stdout, stderr } = await img(['__complete', '--', ...words], { cwd })
  expect([code, stderr]).toEqual([0, ''])
  const lines = stdout.split('\n').slice(0, -1)
  const flags = lines.pop() ?? ''
  return { words: lines.map((line) => line.replace(/\t.*/, '')), flags }
}

beforeAll(() => {
  mkdirSync(join(cwd, 'images'))
  writeFileSync(join(cwd, 'images/my disk.qcow2'), '')
  writeFileSync(join(cwd, 'secret.txt'), '')
})

describe('what is offered', () => {
  it('are verbs, with what they do', async () => {
    expect((await offered('comp')).words).toEqual(['compact', 'compare', 'completion'])
    expect((await offered('--no-discovery', 'res')).words).toEqual(['resize'])
    expect((await offered('help', 'reb')).words).toEqual(['rebase'])
    expect((await offered('')).words).not.toContain('__complete')
    expect((await img(['__complete', '--', 'resi'])).stdout).toBe(
      'resize\tchange the size of the disk in an image\n:\n',
    )
  })

  it('are options of the verb and of all verbs', async () => {
    const { words } = await offered('info', '--')
    expect(words).toEqual(expect.arrayContaining(['--output', '--backing-chain', '--plugin', '--help']))
    expect((await offered('-')).words).toContain('--version')
    expect((await offered('info', '--', '--')).flags).toBe(':files')
  })

  it('are formats, wherever one is asked for', async () => {
    for (const words of [
      ['convert', '-O', 'q'],
      ['info', '-f', 'q'],
      ['info', '--format=q'],
      ['create', '-F', 'q'],
      ['convert', '-pO', 'q'],
    ]) {
      const found = await offered(...words)
      expect(found.words.map((word) => word.replace('--format=', ''))).toEqual(['qcow', 'qcow2'])
    }
  })

  it('are the options of the format that is made, and their values', async () => {
    const create = ['create', '-f', 'qcow2', '-o']
    expect((await offered(...create, 'clu')).words).toEqual(['cluster_size='])
    expect((await offered(...create, 'cluster_size=64k,compat')).words).toEqual(['cluster_size=64k,compat='])
    expect((await offered(...create, 'compression_type=')).words).toEqual([
      'compression_type=zlib',
      'compression_type=zstd',
    ])
    expect((await offered(...create, 'lazy_refcounts=o')).words).toEqual([
      'lazy_refcounts=on',
      'lazy_refcounts=off',
    ])
    expect((await offered(...create, 'backing_fmt=v')).words).toEqual(['backing_fmt=vdi', 'backing_fmt=vmdk'])
    expect((await offered(...create, 'backing_file=')).flags).toBe(':files')
    expect((await offered('convert', '-O', 'vmdk', '-o', 'subf')).words).toEqual(['subformat='])
    expect((await offered('convert', '-O', 'vmdk', '-o', 'subformat=stream')).words).toEqual([
      'subformat=streamOptimized',
    ])
    expect((await offered(...create, 'none_such=')).words).toEqual([])
    // What was given is not offered again.
    expect((await offered(...create, 'cluster_size=64k,clus')).words).toEqual([])
  })

  it('are words that an option takes', async () => {
    expect((await offered('map', '--output', '')).words).toEqual(['human', 'json'])
    expect((await offered('map', '--output=j')).words).toEqual(['--output=json'])
    expect((await offered('check', '-r', '')).words).toEqual(['leaks', 'all'])
    expect((await offered('convert', '-t', 'writeb')).words).toEqual(['writeback'])
    expect((await offered('resize', '--preallocation=f')).words).toEqual([
      '--preallocation=falloc',
      '--preallocation=full',
    ])
    expect((await offered('convert', '--progress', 'j')).words).toEqual(['json'])
    expect((await offered('completion', 'f')).words).toEqual(['fish'])
  })

  it('are open options', async () => {
    expect((await offered('info', '-f', 'lvm', '--open', 'l')).words).toEqual(['lv='])
  })

  it('are files where one is to come', async () => {
    expect((await offered('info', '')).flags).toBe(':files')
    expect((await offered('info', '--passphrase-file', '')).flags).toBe(':files')
    expect((await offered('create', '-b', '')).flags).toBe(':files')
  })

  it('is nothing where nothing is known, never an error', async () => {
    for (const words of [
      ['none', ''],
      ['info', '--none='],
      ['--plugin', './none', 'convert', '-O', ''],
      [],
    ]) {
      expect((await img(['__complete', '--', ...words], { cwd })).stdout).toMatch(/^:(files)?$|^amend/m)
    }
  })
})

describe('img completion', () => {
  it('names what is mistyped', async () => {
    const { code, stderr } = await img(['completion', 'bsh'])
    expect(code).toBe(1)
    expect(stderr).toMatch(/no completion for the shell 'bsh'[\s\S]*did you mean bash\?/)
    expect((await img(['completion'])).code).toBe(1)
  })

  it('an empty word may be told by --next, for shells that drop empty arguments', async () => {
    for (const words of [[], ['convert', '-O'], ['snapshot', '']]) {
      const empty = await mustImg(['__complete', '--', ...words, ''], { cwd })
      expect(await mustImg(['__complete', '--next', '--', ...words], { cwd })).toBe(empty)
      expect(empty).not.toBe('')
    }
  })

  it('has a script for PowerShell that asks the command', async () => {
    expect(await mustImg(['completion', 'powershell'])).toMatch(
      /Register-ArgumentCompleter -Native -CommandName img/,
    )
  })
})

const onTerminal = process.platform === 'linux' && hasProgram('script')

describe.skipIf(!onTerminal || !hasProgram('bash'))('bash (skipped where it or script is missing)', () => {
  let shell: TypedShell
  beforeAll(async () => {
    shell = new TypedShell({ cwd, bin, command: "env PS1='READY>' bash --norc --noprofile -i" })
    await shell.until(/READY>/)
    await shell.type('source <(img completion bash)')
  })
  afterAll(() => shell.end())

  it.each([
    ['img conve\t-O qcow\t2', ['convert', '-O', 'qcow2']],
    ['img info --output=j\tdisk', ['info', '--output=json', 'disk']],
    ['img info --outp\t json', ['info', '--output', 'json']],
    ['img create -f qcow2 -o clus\t64k,comp\t', ['create', '-f', 'qcow2', '-o', 'cluster_size=64k,comp']],
    [
      'img create -f qcow2 -o compression_type=zs\t x',
      ['create', '-f', 'qcow2', '-o', 'compression_type=zstd', 'x'],
    ],
    ['img info ima\tmy\t', ['info', 'images/my disk.qcow2']],
    ['img --plugin secr\t inf\t', ['--plugin', 'secret.txt', 'info']],
  ])('completes %j', async (keys, words) => {
    expect(await shell.run(keys)).toEqual(words)
  })
})

describe.skipIf(!onTerminal || !hasProgram('zsh'))('zsh (skipped where it or script is missing)', () => {
  let shell: TypedShell
  beforeAll(async () => {
    shell = new TypedShell({ cwd, bin, command: "env PS1='READY>' zsh -f -i" })
    await shell.until(/READY>/)
    await shell.type('autoload -Uz compinit; compinit -u -D; source <(img completion zsh)')
  })
  afterAll(() => shell.end())

  it.each([
    ['img conve\t-O qcow\t2', ['convert', '-O', 'qcow2']],
    ['img info --output=j\tdisk', ['info', '--output=json', 'disk']],
    ['img create -f qcow2 -o clus\t64k', ['create', '-f', 'qcow2', '-o', 'cluster_size=64k']],
    [
      'img create -f qcow2 -o compression_type=zs\t x',
      ['create', '-f', 'qcow2', '-o', 'compression_type=zstd', 'x'],
    ],
    ['img info ima\tmy\t', ['info', 'images/my disk.qcow2']],
  ])('completes %j', async (keys, words) => {
    expect(await shell.run(keys)).toEqual(words)
  })
})

describe.skipIf(!hasProgram('fish'))('fish (skipped where it is missing)', () => {
  const fish = (line: string): string[] => {
    const command = `img completion fish | source; complete -C ${JSON.stringify(line)}`
    const { stdout, status, stderr } = spawnSync('fish', ['--no-config', '-c', command], {
      cwd,
      encoding: 'utf8',
      env: { ...process.env, HOME: cwd, PATH: bin + delimiter + process.env.PATH },
    })
    expect(status, stderr).toBe(0)
    return stdout.split('\n').slice(0, -1)
  }

  it('completes verbs with their help, formats, and options of formats', () => {
    expect(fish('img resi')).toEqual(['resize\tchange the size of the disk in an image'])
    expect(fish('img convert -O q')).toEqual(expect.arrayContaining(['qcow', 'qcow2']))
    expect(fish('img info --output=j')).toEqual(['--output=json'])
    expect(fish('img create -f qcow2 -o clus')[0]).toMatch(/^cluster_size=\t/)
  })

  it('completes files, also after an equals sign', () => {
    expect(fish('img info ima').map((line) => line.replace(/\t.*/, ''))).toEqual(['images/'])
    const [after] = fish('img info --passphrase-file=sec')
    expect(after?.replace(/\t.*/, '')).toBe('--passphrase-file=secret.txt')
  })
})
