import { type DiskImage, findSnapshot, ImageError, type SnapshotStore } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { Failure, reasonOf, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { snapshotHeader, snapshotJson, snapshotRow } from '../output/info.js'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import {
  defineDryRun,
  defineSource,
  dryRunOf,
  type Invocation,
  outputOption,
  sourceArguments,
  type Verb,
} from '../verb.js'

const examples = `
Examples:
  img snapshot -c before-update disk.qcow2
  img snapshot -l disk.qcow2
  img snapshot -a before-update disk.qcow2
  img snapshot -d before-update disk.qcow2
  img snapshot -c before-update --size 2G -f lvm --open lv=vg0/root disk.raw
`

const actions = ['l', 'a', 'c', 'd'] as const
type Action = (typeof actions)[number]

/** Bytes of a snapshot's name that qemu-img keeps. */
const longestName = 255

/** `img snapshot`: internal snapshots. */
export const snapshot: Verb = {
  define(command: Command) {
    defineDryRun(defineSource(command))
      .usage('[options] [-l | -a SNAPSHOT | -c SNAPSHOT | -d SNAPSHOT] FILE')
      .option('-f <format>', 'format of the image; found by itself where left out')
      .option('-l', 'list the snapshots')
      .option('-a <snapshot>', 'apply: make the disk what it was; its present content is lost')
      .option('-c <snapshot>', 'create')
      .option(
        '--size <size>',
        'with -c, of LVM: room for what changes from then on (default: enough for all)',
      )
      .option('-d <snapshot>', 'delete')
      .option('--output <how>', 'with -l: human or json')
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const chosen = actions.filter((letter) => options[letter] !== undefined)
    if (chosen.length > 1) throw usageError("Cannot mix '-l', '-a', '-c', '-d'")
    const output = outputOption(options)
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    const [action] = chosen
    const writable = action !== undefined && action !== 'l'
    const signal = context.signal()
    const size = options.size === undefined ? undefined : sizeArgument('snapshot size', String(options.size))
    const dryRun = await dryRunOf(options, context)
    const image = await openNamed(
      filename,
      {
        format: options.f as string | undefined,
        ...sourceArguments(options),
        forceShare: options.forceShare === true,
        writable,
        dryRun,
        harmlessToRaw: true,
        // A list is read from the header alone, also where a backing file or a key is missing.
        inspect: !writable,
        signal,
        secret,
      },
      context,
    )
    try {
      if (action === 'l') await list(image, output)
      else if (action !== undefined) {
        const name = options[action] as string
        await change(image, action, name, { signal, size })
        const done = { a: 'applied', c: 'created', d: 'deleted' }[action]
        if (options.quiet !== true) dryRun?.print(`Snapshot '${name}' would be ${done}.`)
      }
    } finally {
      await image.close()
    }
    return 0
  },
}

async function list(image: DiskImage, output: 'human' | 'json'): Promise<void> {
  const found = (await image.snapshots?.list()) ?? []
  if (output === 'json') printOut(`${qemuJson(found.map(snapshotJson))}\n`)
  else if (found.length > 0)
    printOut(`${['Snapshot list:', snapshotHeader, ...found.map(snapshotRow)].join('\n')}\n`)
}

async function change(
  image: DiskImage,
  action: Exclude<Action, 'l'>,
  name: string,
  options: { readonly signal: AbortSignal; readonly size: number | undefined },
): Promise<void> {
  const { signal } = options
  const verb = { a: 'apply', c: 'create', d: 'delete' }[action]
  const lead = `Could not ${verb} snapshot '${name}': `
  const { snapshots } = image
  try {
    if (action === 'c') {
      if (snapshots?.create === undefined) throw new Failure(`${lead}-95 (Operation not supported)`)
      await snapshots.create(cut(name), options)
    } else if (action === 'a') {
      if (snapshots?.apply === undefined) throw new Failure(`${lead}Block driver does not support snapshots`)
      await snapshots.apply(
        await idOf(snapshots, name, `${lead}Failed to load snapshot: No such file or directory`),
        { signal },
      )
    } else {
      const missing = `${lead}snapshot not found`
      if (snapshots?.delete === undefined) throw new Failure(missing)
      await snapshots.delete(await idOf(snapshots, name, missing, 'name'), { signal })
    }
  } catch (error) {
    throw ImageError.is(error) ? new Failure(lead + reasonOf(error), { cause: error }) : error
  }
}

/** An id by id or name. Where both fit: the id to apply, the name to delete, as in qemu-img, which deletes by name only. */
async function idOf(
  snapshots: SnapshotStore<DiskImage>,
  name: string,
  missing: string,
  first: 'id' | 'name' = 'id',
): Promise<string> {
  const list = await snapshots.list()
  const named = first === 'name' ? list.find((each) => each.name === name) : undefined
  const found = named ?? findSnapshot(list, name)
  if (found !== undefined) return found.id
  const known = list.map((each) => `${each.id} (${each.name})`).join(', ')
  throw new Failure(missing, { hint: known === '' ? 'the image has none' : `the image has ${known}` })
}

/** As much of a name as there is room for, whole characters. */
function cut(name: string): string {
  let text = name
  while (new TextEncoder().encode(text).length > longestName) text = [...text].slice(0, -1).join('')
  return text
}
