/** Where the chunks of one stripe are: indexes of devices. */
export interface StripePlace {
  /** Of the data chunk asked for. */
  readonly data: number
  readonly parity: number
  /** Of the second parity (RAID 6); -1 without one. */
  readonly second: number
}

/** How a RAID level spreads data and parity. */
export interface RaidLayout {
  readonly parities: 1 | 2
  /** Coefficients of the second parity go by device number, as DDF has it; otherwise they start after that device. */
  readonly byDevice: boolean
  /** Level and layout as superblocks have them. Source: Linux drivers/md/raid5.h (ALGORITHM_*). */
  readonly onDisk: { readonly level: number; readonly layout: number }
  /**
   * @param index of the data chunk in its stripe
   * @param devices data and parity
   */
  place(stripe: number, index: number, devices: number): StripePlace
}

type Rotation = (
  stripe: number,
  index: number,
  devices: number,
) => { readonly data: number; readonly parity: number }

/** Parity moves towards the first device; data starts with the first one that is free. */
const leftAsymmetric: Rotation = (stripe, index, devices) => skipOne(devices - 1 - (stripe % devices), index)
const rightAsymmetric: Rotation = (stripe, index, devices) => skipOne(stripe % devices, index)
/** Data starts after the parity. */
const leftSymmetric: Rotation = (stripe, index, devices) =>
  after(devices - 1 - (stripe % devices), index, devices)
const rightSymmetric: Rotation = (stripe, index, devices) => after(stripe % devices, index, devices)
const parityFirst: Rotation = (_, index) => ({ parity: 0, data: index + 1 })
const parityLast: Rotation = (_, index, devices) => ({ parity: devices - 1, data: index })

function skipOne(parity: number, index: number): { readonly data: number; readonly parity: number } {
  return { parity, data: index >= parity ? index + 1 : index }
}

function after(
  parity: number,
  index: number,
  devices: number,
): { readonly data: number; readonly parity: number } {
  return { parity, data: (parity + 1 + index) % devices }
}

function single(rotation: Rotation, layout: number): RaidLayout {
  return {
    parities: 1,
    byDevice: false,
    onDisk: { level: 5, layout },
    place: (stripe, index, devices) => ({ ...rotation(stripe, index, devices), second: -1 }),
  }
}

/** A RAID 5 layout on all devices but the last, which has the second parity. */
function lastIsSecond(rotation: Rotation, layout: number): RaidLayout {
  return {
    parities: 2,
    byDevice: false,
    onDisk: { level: 6, layout },
    place: (stripe, index, devices) => ({ ...rotation(stripe, index, devices - 1), second: devices - 1 }),
  }
}

/** Both parities side by side, data on the devices that are free. */
function restart(first: (stripe: number, devices: number) => number, layout: number): RaidLayout {
  return {
    parities: 2,
    byDevice: true,
    onDisk: { level: 6, layout },
    place(stripe, index, devices) {
      const parity = first(stripe, devices)
      if (parity === devices - 1) return { parity, second: 0, data: index + 1 }
      return { parity, second: parity + 1, data: index >= parity ? index + 2 : index }
    },
  }
}

const continued: RaidLayout = {
  parities: 2,
  byDevice: true,
  onDisk: { level: 6, layout: 10 },
  place(stripe, index, devices) {
    const parity = devices - 1 - (stripe % devices)
    return { parity, second: (parity + devices - 1) % devices, data: (parity + 1 + index) % devices }
  },
}

const zeroRestart = restart((stripe, devices) => stripe % devices, 8)

/**
 * Layouts by segment type.
 * Sources: Linux drivers/md/raid5.c (raid5_compute_sector), drivers/md/dm-raid.c (raid_types); lvmraid(7).
 */
export const raidLayouts: Readonly<Record<string, RaidLayout>> = {
  raid4: single(parityFirst, 4),
  raid5: single(leftSymmetric, 2),
  raid5_n: single(parityLast, 5),
  raid5_ls: single(leftSymmetric, 2),
  raid5_rs: single(rightSymmetric, 3),
  raid5_la: single(leftAsymmetric, 0),
  raid5_ra: single(rightAsymmetric, 1),
  raid6: zeroRestart,
  raid6_zr: zeroRestart,
  raid6_nr: restart((stripe, devices) => devices - 1 - ((stripe + 1) % devices), 9),
  raid6_nc: continued,
  raid6_n_6: lastIsSecond(parityLast, 5),
  raid6_ls_6: lastIsSecond(leftSymmetric, 18),
  raid6_rs_6: lastIsSecond(rightSymmetric, 19),
  raid6_la_6: lastIsSecond(leftAsymmetric, 16),
  raid6_ra_6: lastIsSecond(rightAsymmetric, 17),
}
