import type { Command } from 'commander'
import { completionText } from '../completion/candidates.js'
import { complete as completionOf } from '../completion/complete.js'
import { type Context, createContext } from '../context.js'
import { printOut } from '../output/write.js'
import type { Invocation, Verb } from '../verb.js'

/**
 * `img __complete [--next] -- WORD…`: with `--next` a word is to follow, of which nothing is typed yet. What the scripts of `img completion`
 * ask. Says nothing else: a shell is in the middle of a line.
 */
export const complete: Verb = {
  define(command: Command) {
    command.usage('-- WORD…').option('--next', 'an empty word follows')
  },

  async run({ operands: typed, options }: Invocation, context: Context) {
    const operands = options.next === true ? [...typed, ''] : typed
    const plugins = operands.slice(0, -1).flatMap((word, i) => {
      if (word === '--plugin' && i + 2 < operands.length) return [operands[i + 1] as string]
      return word.startsWith('--plugin=') ? [word.slice('--plugin='.length)] : []
    })
    const ask = (plugin: readonly string[]): Promise<string> =>
      completionOf(operands, createContext({ ...context.globals, plugin }, true)).then(completionText)
    // A plugin that is not there: the command says so once it is run.
    const text = await ask(plugins).catch(() => ask([]))
    printOut(text)
    return 0
  },
}
