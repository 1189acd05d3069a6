import type { NewVolume, VolumeGroupInfo, VolumeInfo, VolumeStore } from '@img/core'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { Failure, usageError } from '../errors.js'
import { qemuJson } from '../output/json.js'
import { groupJson, groupText } from '../output/volumes.js'
import { printOut } from '../output/write.js'
import { secretsOf } from '../secrets/index.js'
import { humanSize, sizeArgument } from '../sizes.js'
import {
  collect,
  defineDryRun,
  defineSource,
  dryRunOf,
  type Invocation,
  type Options,
  outputOption,
  sourceArguments,
  type Verb,
} from '../verb.js'
import { type OpenGroup, openGroup, splitVolume } from '../volumes/open-group.js'
import { isShare, volumeSize } from '../volumes/size-argument.js'

const examples = `
NAME is VOLUME or GROUP/VOLUME. SIZE is a size, or a share: 100%FREE, 50%VG. More disks of the group: --open pv=FILE.

Actions:
  list FILE                     the group, its disks and its volumes
  create FILE NAME SIZE         make a volume
  extend FILE NAME [+]SIZE      make a volume larger
  reduce FILE NAME [-]SIZE      make a volume smaller: what is beyond its new end is lost
  remove FILE NAME              remove a volume, or a snapshot
  rename FILE NAME NEW          rename a volume, or the group
  tag FILE [NAME]               change the tags of a volume, or of the group
  merge FILE NAME               give a snapshot's content back to its origin, and remove the snapshot

Examples:
  img lvm list --segments disk.raw
  img lvm create disk.raw vg0/data 10G --tag backup
  img lvm create --open pv=second.raw first.raw fast 100%FREE --stripes 2
  img lvm extend disk.raw root +2G
  img lvm rename disk.raw vg0 vg1
  img lvm tag disk.raw root --add nightly --delete weekly
`

/** `img lvm`: the volumes of a group on disks, without root. */
export const lvm: Verb = {
  define(command: Command) {
    defineDryRun(defineSource(command))
      .usage('[options] ACTION FILE [NAME] [SIZE|NEW]')
      .option('-f, --format <format>', 'format of the content of the disk (default: lvm)')
      .option('--segments', 'with list: also where each volume lies, and the hidden ones')
      .option('--output <how>', 'with list: human or json')
      .option('--stripes <count>', 'with create: physical volumes that the data goes round over')
      .option('--stripe-size <size>', 'with create: bytes that go to one before the next (default: 64k)')
      .option('--on <pv>', 'with create: physical volume to be used (may be repeated)', collect)
      .option('--tag <tag>', 'with create: a tag (may be repeated)', collect)
      .option('--uuid <uuid>', 'with create: its UUID')
      .option('--add <tag>', 'with tag: put it on (may be repeated)', collect)
      .option('--delete <tag>', 'with tag: take it off (may be repeated)', collect)
      .option('-q, --quiet', 'print nothing but errors')
      .addHelpText('after', examples)
  },

  /** A size such as `-1G` is no option. */
  prepare(args) {
    const last = args[args.length - 1]
    if (last === undefined || !/^-\d/.test(last) || args.indexOf('--') >= 0) return args
    return [...args.slice(0, -1), '--', last]
  },

  async run({ operands, options }: Invocation, context: Context) {
    const [verb, filename, ...rest] = operands
    const action = actions[verb ?? '']
    if (verb === undefined || action === undefined) {
      const known = Object.keys(actions).join(', ')
      throw usageError(
        verb === undefined ? 'Expecting an action' : `unknown action '${verb}'`,
        `there are: ${known}`,
      )
    }
    if (filename === undefined) throw usageError('Expecting image file name')
    const [least, most] = action.operands
    if (rest.length < least || rest.length > most) {
      throw usageError(`'${verb}' takes ${action.usage}`, 'see img lvm --help')
    }
    const output = outputOption(options)
    const [name] = rest
    const wanted = name === undefined ? undefined : splitVolume(name)
    const dryRun = await dryRunOf(options, context)
    const opened = await openGroup(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        forceShare: options.forceShare === true,
        group: wanted?.group,
        writable: action.change !== undefined,
        dryRun,
        inspect: action.change === undefined,
        secret: await secretsOf(options, context.warn),
      },
      context,
    )
    try {
      if (action.change === undefined) await list(opened, options, output)
      else {
        const said = await action.change(opened.volumes, {
          name: wanted?.name,
          argument: rest[1],
          options,
          context,
        })
        if (options.quiet !== true) {
          if (dryRun === undefined) context.announce(said)
          else dryRun.print(`Would be done: ${said}`)
        }
      }
    } finally {
      await opened.image.close()
    }
    return 0
  },
}

async function list({ image, volumes }: OpenGroup, options: Options, output: string): Promise<void> {
  const segments = options.segments === true
  if (output === 'human') printOut(groupText(await volumes.info(), segments))
  else printOut(`${qemuJson(groupJson((await image.info()).specific, segments))}\n`)
}

interface Change {
  /** Of the volume; absent where the whole group is meant. */
  readonly name: string | undefined
  readonly argument: string | undefined
  readonly options: Options
  readonly context: Context
}

interface Action {
  /** Fewest and most operands after the file. */
  readonly operands: readonly [number, number]
  readonly usage: string
  /** Absent: it only looks. @returns what is printed */
  readonly change?: (volumes: VolumeStore, change: Change) => Promise<string>
}

const actions: Readonly<Record<string, Action>> = {
  list: { operands: [0, 0], usage: 'FILE' },
  create: { operands: [2, 2], usage: 'FILE NAME SIZE', change: create },
  extend: { operands: [2, 2], usage: 'FILE NAME [+]SIZE', change: (...all) => resize('extend', ...all) },
  reduce: { operands: [2, 2], usage: 'FILE NAME [-]SIZE', change: (...all) => resize('reduce', ...all) },
  remove: {
    operands: [1, 1],
    usage: 'FILE NAME',
    async change(volumes, { name = '', context }) {
      await able(volumes.remove)(name, { signal: context.signal() })
      return `Volume ${name} removed.`
    },
  },
  rename: { operands: [2, 2], usage: 'FILE NAME NEW', change: rename },
  tag: { operands: [0, 1], usage: 'FILE [NAME]', change: tag },
  merge: {
    operands: [1, 1],
    usage: 'FILE NAME',
    async change(volumes, { name = '', context }) {
      await able(volumes.merge)(name, { signal: context.signal() })
      return `Snapshot ${name} merged into its origin.`
    },
  },
}

/** @throws {Failure} where the format cannot. */
function able<T>(member: T | undefined): T {
  if (member === undefined) throw new Failure('the format of this disk cannot do that')
  return member
}

async function create(
  volumes: VolumeStore,
  { name = '', argument = '', options, context }: Change,
): Promise<string> {
  const stripes = options.stripes === undefined ? undefined : Number(options.stripes)
  if (stripes !== undefined && !Number.isInteger(stripes)) throw new Failure('--stripes expects a number')
  const group = await volumes.info()
  const wanted: NewVolume = {
    name,
    size: volumeSize(argument, { group, stripes, on: options.on as string[] | undefined }),
    atMost: isShare(argument),
    stripes,
    stripeSize:
      options.stripeSize === undefined ? undefined : sizeArgument('stripe size', String(options.stripeSize)),
    tags: options.tag as string[] | undefined,
    on: options.on as string[] | undefined,
    uuid: options.uuid as string | undefined,
  }
  const made = await able(volumes.create)(wanted, { signal: context.signal() })
  return `Volume ${group.name}/${made.name} created, ${sizeOf(made)}.`
}

async function resize(
  verb: 'extend' | 'reduce',
  volumes: VolumeStore,
  { name = '', argument = '', context }: Change,
): Promise<string> {
  const group = await volumes.info()
  const now = ownSize(group, name)
  const typed = verb === 'reduce' && /^\+/.test(argument) ? undefined : argument
  if (typed === undefined || (verb === 'extend' && typed.startsWith('-'))) {
    throw usageError(`${argument} does not ${verb} a volume`)
  }
  const size = volumeSize(typed, { group, now })
  if (verb === 'extend' ? size < now : size > now) {
    throw new Failure(`Volume ${name} has ${now} bytes: ${size} would not ${verb} it`)
  }
  const made = await able(volumes.resize)(name, size, {
    shrink: verb === 'reduce',
    atMost: isShare(argument),
    signal: context.signal(),
  })
  return `Volume ${group.name}/${made.name} has ${sizeOf(made)} now.`
}

function ownSize(group: VolumeGroupInfo, name: string): number {
  const volume = group.volumes.find((each) => each.name === name)
  if (volume !== undefined) {
    // Of a snapshot, its store is what is resized.
    return volume.type === 'snapshot' ? volume.segments.reduce((sum, { size }) => sum + size, 0) : volume.size
  }
  const known = group.volumes.filter(({ visible }) => visible).map((each) => each.name)
  throw new Failure(`there is no logical volume ${name} in ${group.name}`, {
    hint: known.length > 0 ? `there are: ${known.join(', ')}` : 'it has none',
  })
}

async function rename(volumes: VolumeStore, { name = '', argument = '', context }: Change): Promise<string> {
  const group = await volumes.info()
  const isVolume = group.volumes.some((each) => each.name === name)
  const target = isVolume || name !== group.name ? name : undefined
  const to = splitVolume(argument)
  if (to.group !== undefined && to.group !== group.name) {
    throw new Failure(`a volume cannot be moved into another group, ${to.group}`)
  }
  await able(volumes.rename)(target, to.name, { signal: context.signal() })
  return target === undefined
    ? `Group ${name} renamed to ${to.name}.`
    : `Volume ${name} renamed to ${to.name}.`
}

async function tag(volumes: VolumeStore, { name, options, context }: Change): Promise<string> {
  const add = options.add as string[] | undefined
  const remove = options.delete as string[] | undefined
  if (add === undefined && remove === undefined) throw usageError("'tag' needs --add or --delete")
  const group = await volumes.info()
  const target = name === '' || name === group.name ? undefined : name
  await able(volumes.tag)(target, { add, remove }, { signal: context.signal() })
  const after = await volumes.info()
  const tags = target === undefined ? after.tags : after.volumes.find((each) => each.name === target)?.tags
  return `Tags of ${target ?? group.name}: ${tags?.join(', ') || 'none'}.`
}

function sizeOf({ size }: VolumeInfo): string {
  return `${humanSize(size)} (${size} bytes)`
}
