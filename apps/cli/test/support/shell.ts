import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { imgFile } from './cli.js'

/** True where a program is installed that answers to `--version`. */
export function hasProgram(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined
}

/**
 * Makes a directory for PATH with an `img` that answers to what completion asks as the real one does, and otherwise prints the
 * words that it was given, each in angle brackets.
 */
export function completingImg(directory: string): string {
  const bin = join(directory, 'bin')
  mkdirSync(bin)
  const script = `#!/bin/sh
if [ "$1" = __complete ] || [ "$1" = completion ]; then exec "${process.execPath}" "${imgFile}" "$@"; fi
printf 'RAN'; printf '<%s>' "$@"; echo
`
  writeFileSync(join(bin, 'img'), script)
  chmodSync(join(bin, 'img'), 0o755)
  return bin
}

/** How a shell is started. */
export interface ShellOptions {
  readonly cwd: string
  /** Put before PATH. */
  readonly bin: string
  /** Command line of the shell. It has to print `READY>` as its prompt. */
  readonly command: string
}

/** A shell on a terminal of its own, by `script` of util-linux. */
export class TypedShell {
  readonly #child
  #output = ''
  #changed: () => void = () => undefined

  constructor({ cwd, bin, command }: ShellOptions) {
    this.#child = spawn('script', ['-qfec', command, '/dev/null'], {
      cwd,
      env: {
        ...process.env,
        TERM: 'xterm',
        HISTFILE: '/dev/null',
        PATH: bin + delimiter + process.env.PATH,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child.stdout.on('data', (text: Buffer) => {
      this.#output += text.toString()
      this.#changed()
    })
  }

  /** Waits for text on the terminal. @returns everything up to and with it; forgotten afterwards. */
  async until(wanted: RegExp): Promise<string> {
    for (;;) {
      const found = wanted.exec(this.#output)
      if (found !== null) {
        const end = found.index + found[0].length
        const seen = this.#output.slice(0, end)
        this.#output = this.#output.slice(end)
        return seen
      }
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
  }

  /** Types, with a return at the end. @returns the words that `img` was then given. */
  async run(keys: string): Promise<string[]> {
    this.#child.stdin.write(`${keys}\r`)
    await this.until(/RAN/)
    const line = await this.until(/\r?\n/)
    await this.until(/READY>/)
    return [...line.matchAll(/<([^>]*)>/g)].map(([, word = '']) => word)
  }

  /** Types what needs no answer. */
  async type(line: string): Promise<void> {
    this.#child.stdin.write(`${line}\r`)
    await this.until(/READY>/)
  }

  end(): void {
    this.#child.stdin.end()
    this.#child.kill()
  }
}
