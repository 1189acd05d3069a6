import type { OptionSpecs } from '@img/core'

/** What `open` can be told. */
export const openOptions: OptionSpecs = {
  lv: { kind: 'string', help: 'Logical volume: NAME, or GROUP/NAME' },
  pv: { kind: 'files', help: 'More disks with physical volumes of the group' },
  vg: { kind: 'string', help: 'Volume group, where no volume of it is named' },
  seed: { kind: 'string', help: 'Makes new UUIDs the same each time, and records no time of change' },
}
