import type { Command } from 'commander'
import type { Context } from '../context.js'
import { usageError } from '../errors.js'
import { type Json, qemuJson } from '../output/json.js'
import { columns } from '../output/table.js'
import { printOut } from '../output/write.js'
import { failureReason, origins, packagesNotInstalled } from '../plugins/describe.js'
import type { Plugin } from '../plugins/load.js'
import { type Invocation, outputOption, type Verb } from '../verb.js'

const after = `
Every plugin found is loaded. Looked for are, in this order: --plugin, IMG_PLUGINS, the dependencies
of the nearest package.json (not with --no-discovery), and the packages installed with img. Of two
with one format, the first has it.

Examples:
  img plugins
  img plugins --output=json
  img --plugin ./my-format plugins
`

/** `img plugins`: where each came from, and why one cannot be used. */
export const plugins: Verb = {
  define(command: Command) {
    command.usage('[options]').option('--output <how>', 'human or json').addHelpText('after', after)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const output = outputOption(options)
    if (operands.length > 0) throw usageError(`Unexpected argument: ${operands[0]}`)
    const registry = await context.registry()
    const found = await context.plugins()
    const used = new Map<Plugin, string[]>()
    const taken = new Set<string>()
    for (const plugin of found) {
      const names: string[] = []
      for (const { name } of plugin.formats) {
        if (taken.has(name) || plugin.failure !== undefined) continue
        try {
          await registry.load(name)
          taken.add(name)
          names.push(name)
        } catch (error) {
          // The one that failed is told with its reason.
          plugin.failure ??= error
        }
      }
      used.set(plugin, names)
    }
    printOut(output === 'json' ? asJson(found, used) : asTable(found, used))
    return 0
  },
}

type Used = ReadonlyMap<Plugin, readonly string[]>

function asJson(found: readonly Plugin[], used: Used): string {
  return `${qemuJson({
    plugins: found.map((plugin): Json => {
      const { name, version, origin, path, formats, failure } = plugin
      return {
        name,
        version,
        found: origin,
        path,
        formats: formats.map((format) => format.name),
        used: used.get(plugin) ?? [],
        loaded: failure === undefined,
        reason: failure === undefined ? undefined : failureReason(failure),
      }
    }),
    'not-installed': packagesNotInstalled(found),
  })}\n`
}

function asTable(found: readonly Plugin[], used: Used): string {
  const rows = found.map((plugin) => {
    const { name, version = '?', origin, path, formats, failure } = plugin
    const names = formats.map((format) =>
      used.get(plugin)?.includes(format.name) === true ? format.name : `(${format.name})`,
    )
    return [name, version, origins[origin], failure === undefined ? names.join(', ') || '-' : 'FAILED', path]
  })
  const lines = columns([['PLUGIN', 'VERSION', 'FOUND', 'FORMATS', 'PATH'], ...rows])
  for (const { name, failure } of found) {
    if (failure !== undefined) lines.push('', `${name} could not be loaded: ${failureReason(failure)}`)
  }
  if (rows.some(([, , , names]) => names?.includes('('))) {
    lines.push('', 'Of a format in parentheses, another plugin is used.')
  }
  const absent = packagesNotInstalled(found)
  if (absent.length > 0) lines.push('', `Not installed: ${absent.join(' ')}`)
  return `${lines.join('\n')}\n`
}
