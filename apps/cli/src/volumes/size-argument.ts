import type { VolumeGroupInfo } from '@img/core'
import { Failure } from '../errors.js'
import { sizeArgument } from '../sizes.js'

/** Stripes and extents to which a share of the free room is rounded down. */
export interface SizeContext {
  readonly group: VolumeGroupInfo
  readonly stripes?: number | undefined
  /** Names of the physical volumes that alone are to be used: then `FREE` and `PVS` are theirs. */
  readonly on?: readonly string[] | undefined
  /** Bytes of the volume now, to which a sign refers. */
  readonly now?: number | undefined
}

/** True for a share of the room: as lvm2 has it, less will do where no more fits. */
export function isShare(text: string): boolean {
  return /%(FREE|VG|PVS|LV)$/i.test(text)
}

/**
 * Bytes of a volume as typed: a size, `+SIZE` or `-SIZE` where it has one now, or a share such as `100%FREE`, `50%VG`.
 * @throws {Failure}
 */
export function volumeSize(text: string, { group, stripes = 1, on = [], now }: SizeContext): number {
  const share = /^(\+?)(\d+)%(FREE|VG|PVS|LV)$/i.exec(text)
  if (share !== null) {
    const [, sign, percent, of = ''] = share
    const named = on.length === 0 ? [] : group.physicalVolumes.filter(({ name }) => on.includes(name))
    const sum = (key: 'free' | 'size'): number =>
      named.length === 0 ? group[key] : named.reduce((total, pv) => total + pv[key], 0)
    if (/^lv$/i.test(of) && now === undefined) {
      throw new Failure(`${text}: a volume that is made has no size yet to take a share of`)
    }
    const whole = /^lv$/i.test(of)
      ? (now ?? 0)
      : /free/i.test(of)
        ? sum('free')
        : /pvs/i.test(of)
          ? sum('size')
          : group.size
    const unit = group.extentSize * stripes
    const bytes = Math.floor((whole * Number(percent)) / 100 / unit) * unit
    const size = sign === '+' || (now !== undefined && /free/i.test(of)) ? (now ?? 0) + bytes : bytes
    if (size <= 0)
      throw new Failure(
        `${text} is no room: ${sum('free')} bytes are free in ${[group.name, ...on].join(', ')}`,
      )
    return size
  }
  if (now !== undefined && /^[+-]/.test(text)) {
    const bytes = sizeArgument('volume size', text.slice(1))
    const size = text.startsWith('+') ? now + bytes : now - bytes
    if (size <= 0) throw new Failure('New volume size must be positive')
    return size
  }
  const size = sizeArgument('volume size', text)
  if (size <= 0) throw new Failure('New volume size must be positive')
  return size
}
