import type { Command } from 'commander'
import { completionScript, isShell, shells } from '../completion/scripts.js'
import { usageError } from '../errors.js'
import { printOut } from '../output/write.js'
import { nearest } from '../suggest.js'
import type { Invocation, Verb } from '../verb.js'

const after = `
Prints what makes a shell complete verbs, options, formats and the options of formats.
SHELL is ${shells.join(', ')}.

Examples:
  source <(img completion bash)                                             # this shell; in ~/.bashrc: every one
  img completion bash > ~/.local/share/bash-completion/completions/img
  img completion zsh > "\${fpath[1]}/_img"
  img completion fish > ~/.config/fish/completions/img.fish
  img completion powershell | Out-String | Invoke-Expression                # in $PROFILE: every one
`

/** `img completion SHELL`. */
export const completion: Verb = {
  firstOperand: shells,

  define(command: Command) {
    command.usage('[options] SHELL').addHelpText('after', after)
  },

  run({ operands }: Invocation) {
    const [shell] = operands
    if (operands.length !== 1 || shell === undefined) throw usageError('Expecting the name of a shell')
    if (!isShell(shell)) {
      const near = nearest(shell, shells)
      const hint = near === undefined ? `there are: ${shells.join(', ')}` : `did you mean ${near}?`
      throw usageError(`no completion for the shell '${shell}'`, hint)
    }
    printOut(completionScript(shell))
    return Promise.resolve(0)
  },
}
