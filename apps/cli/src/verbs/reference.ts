import type { Command } from 'commander'
import type { Context } from '../context.js'
import { usageError } from '../errors.js'
import { printOut } from '../output/write.js'
import { manPage } from '../reference/man.js'
import { markdownReference } from '../reference/markdown.js'
import { shownFormats } from '../reference/tree.js'
import type { Invocation, Verb } from '../verb.js'

/** `img __reference markdown|man`: all help texts as one page. */
export const reference: Verb = {
  firstOperand: ['markdown', 'man'],

  define(command: Command) {
    command.usage('markdown|man')
  },

  async run({ operands }: Invocation, context: Context) {
    const [kind] = operands
    if (kind !== 'markdown' && kind !== 'man') throw usageError('Expecting markdown or man')
    const formats = await shownFormats(await context.registry())
    printOut(await (kind === 'man' ? manPage(formats) : markdownReference(formats)))
    return 0
  },
}
