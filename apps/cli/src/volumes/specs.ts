import { Failure } from '../errors.js'
import { parseOptionList } from '../option-list.js'
import { sizeArgument } from '../sizes.js'

/** What `--lv NAME[=SIZE][,key=value…]` says of a new volume. */
export interface VolumeSpec {
  readonly name: string
  /** As typed: a size, or a share such as `100%FREE`. */
  readonly size: string | undefined
  /** Image that it is filled from. */
  readonly from: string | undefined
  readonly fromFormat: string | undefined
  readonly stripes: number | undefined
  /** Bytes. */
  readonly stripeSize: number | undefined
  readonly tags: readonly string[]
  readonly uuid: string | undefined
}

/** What `--pv FILE[,size=SIZE]` says of one more disk. */
export interface DiskSpec {
  readonly path: string
  /** Bytes; absent: as the first disk. */
  readonly size?: number | undefined
}

const volumeKeys = ['from', 'format', 'stripes', 'stripe_size', 'tags', 'uuid']

/** @throws {Failure} */
export function parseVolume(text: string): VolumeSpec {
  const [first, ...rest] = parseOptionList([text])
  if (first === undefined || first.name === '') throw new Failure(`--lv expects NAME=SIZE, not '${text}'`)
  const values = keyed('--lv', rest, volumeKeys)
  const stripes = values.get('stripes')
  if (stripes !== undefined && !/^\d+$/.test(stripes))
    throw new Failure(`--lv ${first.name}: stripes expects a number`)
  const stripeSize = values.get('stripe_size')
  return {
    name: first.name,
    size: first.value,
    from: values.get('from'),
    fromFormat: values.get('format'),
    stripes: stripes === undefined ? undefined : Number(stripes),
    stripeSize: stripeSize === undefined ? undefined : sizeArgument('stripe size', stripeSize),
    tags: (values.get('tags') ?? '').split(',').filter((tag) => tag !== ''),
    uuid: values.get('uuid'),
  }
}

/** @throws {Failure} */
export function parseDisk(text: string): DiskSpec {
  const [first, ...rest] = parseOptionList([text])
  if (first === undefined || first.value !== undefined) throw new Failure(`--pv expects FILE, not '${text}'`)
  const size = keyed('--pv', rest, ['size']).get('size')
  return { path: first.name, ...(size !== undefined && { size: sizeArgument('disk size', size) }) }
}

function keyed(
  flag: string,
  options: ReturnType<typeof parseOptionList>,
  known: readonly string[],
): ReadonlyMap<string, string> {
  const values = new Map<string, string>()
  for (const { name, value } of options) {
    if (value === undefined || !known.includes(name)) {
      throw new Failure(`Invalid parameter '${name}' of ${flag}`, { hint: `known are: ${known.join(', ')}` })
    }
    values.set(name, value)
  }
  return values
}
