import type { ValuesOf } from '@img/core'

/** What `open` can be told. */
export const openOptions = {
  disk: { kind: 'string', help: 'Which disk: its number from 1, its id, or the name of its file' },
  verify: {
    kind: 'oneOf',
    values: ['disk', 'all', 'off'],
    default: 'disk',
    help: 'What is checked against the manifest: disk (the descriptor, and the disk that is opened), all (each file) or off',
  },
} as const

/** Checked values of {@link openOptions}. */
export type OpenOptionValues = ValuesOf<typeof openOptions>

/** Values of {@link openOptions} where none are given. */
export const openDefaults: OpenOptionValues = { disk: undefined, verify: 'disk' }
