import type { Format } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { usageError } from '../errors.js'
import { type Json, qemuJson } from '../output/json.js'
import { columns } from '../output/table.js'
import { printOut } from '../output/write.js'
import { failureReason, origins, packagesNotInstalled } from '../plugins/describe.js'
import type { Plugin } from '../plugins/load.js'
import type { Invocation, Verb } from '../verb.js'

/** A format and the plugin that it comes from. */
interface Row {
  readonly name: string
  readonly plugin: Plugin
  readonly format?: Format | undefined
  readonly failure?: unknown
}

const examples = `
Examples:
  img formats
  img formats --json
`

/** `img formats`: loads every plugin and tells what it can do. */
export const formats: Verb = {
  define(command: Command) {
    command.usage('[options]').addHelpText('after', examples)
  },

  async run({ operands }: Invocation, context: Context) {
    if (operands.length > 0) throw usageError(`Unexpected argument: ${operands[0]}`)
    const registry = await context.registry()
    const plugins = await context.plugins()
    const rows: Row[] = []
    for (const plugin of plugins) {
      for (const { name } of plugin.formats) {
        // The first plugin that has a name gets it.
        if (rows.some((row) => row.name === name)) continue
        try {
          rows.push({ name, plugin, format: await registry.load(name) })
        } catch (failure) {
          rows.push({ name, plugin, failure })
        }
      }
    }
    const failed = plugins.filter(({ failure }) => failure !== undefined)
    printOut(context.globals.json === true ? asJson(rows, failed) : asTable(rows, failed))
    return 0
  },
}

/** What a format can do: the members that it has. */
function capabilities(format: Format): string[] {
  const has: [string, unknown][] = [
    ['read', format.open],
    ['create', format.create ?? format.pack],
    ['to pipe', format.stream ?? format.pack],
    ['from pipe', format.readStream],
    ['measure', format.measure],
  ]
  return has.filter(([, member]) => member !== undefined).map(([name]) => name)
}

function asJson(rows: readonly Row[], failed: readonly Plugin[]): string {
  return `${qemuJson({
    formats: rows.flatMap(({ name, plugin, format }): Json[] =>
      format === undefined
        ? []
        : [
            {
              name,
              title: format.title,
              extensions: format.extensions,
              capabilities: capabilities(format),
              'create-options': Object.keys(format.createOptions ?? {}),
              plugin: plugin.name,
              version: plugin.version,
              found: plugin.origin,
              path: plugin.path,
            },
          ],
    ),
    failed: failed.map(({ name, version, origin, path, failure }) => ({
      plugin: name,
      version,
      found: origin,
      path,
      reason: failureReason(failure),
    })),
    'not-installed': packagesNotInstalled(rows.map(({ plugin }) => plugin)),
  })}\n`
}

function asTable(rows: readonly Row[], failed: readonly Plugin[]): string {
  const table = rows.flatMap(({ name, plugin, format }) =>
    format === undefined
      ? []
      : [
          [
            name,
            format.title,
            `${plugin.name}@${plugin.version ?? '?'}`,
            origins[plugin.origin],
            capabilities(format).join(', '),
          ],
        ],
  )
  const lines = columns([['FORMAT', 'TITLE', 'PLUGIN', 'FOUND', 'CAN'], ...table])
  for (const { name, path, failure } of failed)
    lines.push(`\n${name} (${path}) could not be loaded: ${failureReason(failure)}`)
  const absent = packagesNotInstalled(rows.map(({ plugin }) => plugin))
  if (absent.length > 0) lines.push('', `Not installed: ${absent.join(' ')}`)
  return `${lines.join('\n')}\n`
}
