import type { FormatManifest } from './registry.js'

/**
 * Formats with a plugin of this project: so that a file whose plugin is not installed is named, not taken for raw.
 * Magic numbers from the formats' own specifications (see each package).
 */
export const officialFormats: readonly (FormatManifest & { readonly package: string })[] = [
  { name: 'raw', package: '@img/raw', magic: [] },
  {
    name: 'qcow2',
    package: '@img/qcow2',
    magic: [
      { offset: 0, hex: '514649fb00000002' },
      { offset: 0, hex: '514649fb00000003' },
    ],
  },
  { name: 'qcow', package: '@img/qcow', magic: [{ offset: 0, hex: '514649fb00000001' }] },
  { name: 'cow', package: '@img/cow', magic: [{ offset: 0, hex: '4f4f4f4d00000002' }] },
  {
    name: 'vmdk',
    package: '@img/vmdk',
    magic: [
      { offset: 0, hex: '4b444d56' },
      { offset: 0, hex: '434f5744' },
      { offset: 0, hex: 'bebafeca00000000' },
      { offset: 0, hex: '23204469736b2044657363726970746f7246696c65' },
    ],
  },
  { name: 'vdi', package: '@img/vdi', magic: [{ offset: 64, hex: '7f10dabe' }] },
  { name: 'luks', package: '@img/luks', magic: [{ offset: 0, hex: '4c554b53babe0001' }] },
  // A physical volume is content of a raw disk: without the plugin it still is one.
  { name: 'lvm', package: '@img/lvm', magic: [] },
  { name: 'ova', package: '@img/ova', magic: [{ offset: 257, hex: '7573746172' }] },
  { name: 'ovf', package: '@img/ova', magic: [] },
]
