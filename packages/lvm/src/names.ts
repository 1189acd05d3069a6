import { lvmError } from './errors.js'
import type { VolumeGroup } from './volume-group.js'

/** Bytes of the names of a group and a volume together. Source: lvm2 lib/misc/lvm-string.c, NAME_LEN. */
const longest = 126

/** What lvm2 keeps for volumes inside others. Source: lvm2 lib/misc/lvm-string.c, apply_lvname_restrictions. */
const reservedParts =
  /_(cdata|cmeta|corig|cpool|cvol|wcorig|iorig|imeta|mimage|mlog|rimage|rmeta|tdata|tmeta|vdata|vorigin|pmspare)/
const reservedStarts = /^(snapshot|pvmove)/

function checkName(kind: string, name: string): void {
  if (/^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$/.test(name) && name !== '.' && name !== '..') return
  throw lvmError(
    'IMG_BAD_OPTION',
    `${JSON.stringify(name)} cannot name a ${kind}`,
    undefined,
    undefined,
    'letters, digits and + _ . - can be used, a hyphen not in front',
  )
}

/**
 * A name for a group.
 * @throws {ImageError} IMG_BAD_OPTION.
 */
export function checkGroupName(name: string): void {
  checkName('volume group', name)
  if (name.length > longest) throw lvmError('IMG_BAD_OPTION', `the name ${name} is too long`)
}

/**
 * A name for a new volume.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_EXISTS.
 */
export function checkVolumeName(group: VolumeGroup, name: string): void {
  checkName('logical volume', name)
  if (reservedParts.test(name) || reservedStarts.test(name)) {
    throw lvmError('IMG_BAD_OPTION', `the name ${name} is reserved: LVM gives such names itself`)
  }
  if (group.name.length + name.length > longest)
    throw lvmError('IMG_BAD_OPTION', `the name ${name} is too long`)
  if (group.logicalVolumes.has(name) || group.physicalVolumes.has(name)) {
    throw lvmError('IMG_EXISTS', `there is a volume ${name} in ${group.name} already`)
  }
}

/**
 * A tag. Source: lvm2 lib/misc/lvm-string.c, validate_tag.
 * @throws {ImageError} IMG_BAD_OPTION.
 */
export function checkTag(tag: string): void {
  if (/^[a-zA-Z0-9_+./=!:&#-]{1,1024}$/.test(tag) && !tag.startsWith('-')) return
  throw lvmError(
    'IMG_BAD_OPTION',
    `${JSON.stringify(tag)} cannot be a tag`,
    undefined,
    undefined,
    'letters, digits and _ + . - / = ! : & # can be used, a hyphen not in front',
  )
}
