/** Images on which img says something else than qemu-img, and why. */
export interface FixtureDifference {
  readonly reason: string
  /** Names of the images, without what is common. */
  readonly files: RegExp
  /** Of which verbs; all where left out. */
  readonly verbs?: readonly string[]
}

/** Formats for which one of the two programs has no driver, and an OVA, which qemu-img takes for a raw disk. */
export const notCompared: ReadonlySet<string> = new Set([
  'cow',
  'cow-uml',
  'luks',
  'none',
  'ova',
  'ovf',
  'parallels',
  'qed',
  'vhdx',
  'vpc',
])

/** On these qemu-img never ends, or not in this year. */
export const endless: RegExp = /^(chain\/self|chain\/loop-\w|qcow1-huge|attack-vmdk-capacity-big)\./

/** In each of these something must differ; where nothing is listed, nothing may. */
export const fixtureDifferences: readonly FixtureDifference[] = [
  {
    reason: 'img checks qcow images, which qemu-img cannot',
    files: /\.qcow$/,
    verbs: ['check'],
  },
  {
    reason: 'to check an encrypted image img needs no passphrase',
    files: /^(qcow2-(luks|aes)-.*|attack-qcow2-crypt-1-nokey)\.qcow2$/,
    verbs: ['check'],
  },
  {
    reason: 'img warns of stale bitmaps where bitmaps are asked for',
    files: /^qcow2-bitmap-stale-autoclear\./,
  },
  {
    reason: 'a name that is JSON, inside an image, is followed only with --allow-ref all',
    files: /^chain\/json-backing\./,
    verbs: ['map', 'measure'],
  },
  { reason: 'there is no plugin for vpc', files: /^chain\/over-vpc\./, verbs: ['map', 'measure'] },
  {
    reason: 'img checks an image without its backing file',
    files: /^chain\/missing-backing\./,
    verbs: ['check'],
  },
  { reason: 'img opens VDI images with a parent', files: /^vdi-diff(-badparent)?\./ },
  {
    reason:
      'where extents are of several kinds, img tells holes of the host in all of them, and that the image is not dirty',
    files: /^vmdk-multi\./,
    verbs: ['info', 'map', 'measure'],
  },
  {
    reason: 'a ZERO extent is part of the disk',
    files: /^vmdk-zero-extent\./,
    verbs: ['info', 'map', 'measure'],
  },
  {
    reason: 'a VMDK descriptor may begin with blanks',
    files: /^vmdk-desc-(leading-blank|spaces)\./,
  },
  {
    reason: 'extents that are read-only, or of thin VMFS disks, are read',
    files: /^vmdk-(desc-rdonly|vmfsthin)\./,
  },
  {
    reason:
      'info tells of a VMDK although an extent is missing, damaged or elsewhere; check says what is wrong',
    files: /^(attack-vmdk-(overhead|trunc-gt)|vmdk-desc-(missing-extent|noaccess|traversal))\./,
  },
  {
    reason: 'a parent whose content id is another is refused, and found by check',
    files: /^vmdk-delta-badcid\./,
  },
  {
    reason: 'qemu-img ends by a signal, or opens a file as raw that begins as qcow2',
    files: /^(attack-qcow2-(crypt-2-nohdr|version-0)|vmdk-desc-negsize)\./,
  },
  {
    reason: 'a header that contradicts the specification is refused where qemu-img goes on',
    files:
      /^(bad-qcow1-l1off|attack-qcow2-(l1-off-0|snap-off-0|v2-backing-off)|attack-vdi-(bmap-outside|hdrsize|trunc-bmap|type-9)|attack-vmdk-(capacity-big|compress-9|desc-huge|desc-off|grain-3|newline|version-0)|vmdk-desc-version4)\./,
  },
  {
    reason:
      'tables that point outside the file, into the header or to one place twice are refused, or found by check',
    files:
      /^(attack-vdi-entry-(dup|outside)|attack-vmdk-(gd-0|gd-outside|gde-outside|gte-dup|gte-header|gte-outside|rgd-bad|so-marker-lba|so-marker-size|trunc-data)|attack-qcow2-l1-off-outside|bad-qcow2-(comp-outside|l1-misaligned|l1-outside|l1-to-header|l2-far-outside|l2-misaligned|l2-outside|l2-reserved|l2-zero-misaligned|overlap-header|truncated-data|truncated-l1|truncated-l2))\./,
  },
  {
    reason: 'img tells that the image was not closed cleanly',
    files: /^attack-vmdk-unclean\./,
    verbs: ['info', 'check'],
  },
  {
    reason:
      'img looks for holes of the host where QEMU takes the image for one whose metadata was preallocated',
    files: /^attack-qcow2-rt-off-0\./,
    verbs: ['map'],
  },
]
