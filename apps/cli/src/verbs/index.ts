import type { Verb } from '../verb.js'

/** A verb that is not loaded. */
export interface LazyVerb {
  readonly name: string
  /** One line for the list of verbs. */
  readonly summary: string
  load(): Promise<Verb>
}

/** All verbs, as help lists them. */
export const verbs: readonly LazyVerb[] = [
  {
    name: 'compare',
    summary: 'tell whether two images have the same content',
    load: async () => (await import('./compare.js')).compare,
  },
  {
    name: 'convert',
    summary: 'copy an image into another format, a device or a pipe',
    load: async () => (await import('./convert.js')).convert,
  },
  {
    name: 'create',
    summary: 'make a new image',
    load: async () => (await import('./create.js')).create,
  },
  {
    name: 'formats',
    summary: 'list formats, and where their plugins come from',
    load: async () => (await import('./formats.js')).formats,
  },
  {
    name: 'info',
    summary: 'tell what an image is',
    load: async () => (await import('./info.js')).info,
  },
  {
    name: 'map',
    summary: 'tell where the content of an image lives',
    load: async () => (await import('./map.js')).map,
  },
  {
    name: 'measure',
    summary: 'tell how large a new image would be',
    load: async () => (await import('./measure.js')).measure,
  },
  {
    name: 'resize',
    summary: 'change the size of the disk in an image',
    load: async () => (await import('./resize.js')).resize,
  },
]
