import type { Verb } from '../verb.js'
import { convert } from './convert.js'
import { info } from './info.js'

/** A verb that is not loaded. */
export interface LazyVerb {
  readonly name: string
  /** One line for the list of verbs. */
  readonly summary: string
  /** Not for people: in no list. */
  readonly hidden?: true
  load(): Promise<Verb>
}

/** All verbs, as help lists them. The two most used, and what all share with them, are loaded with the command. */
export const verbs: readonly LazyVerb[] = [
  {
    name: 'amend',
    summary: 'change options of an image that exists',
    load: async () => (await import('./amend.js')).amend,
  },
  {
    name: 'bench',
    summary: 'time reads or writes of an image',
    load: async () => (await import('./bench.js')).bench,
  },
  {
    name: 'bitmap',
    summary: 'change the dirty bitmaps of an image',
    load: async () => (await import('./bitmap.js')).bitmap,
  },
  {
    name: 'check',
    summary: 'look for damage in an image, and repair it',
    load: async () => (await import('./check.js')).check,
  },
  {
    name: 'commit',
    summary: 'write what an image holds into its backing file',
    load: async () => (await import('./commit.js')).commit,
  },
  {
    name: 'compact',
    summary: 'give unused room in an image back to the host',
    load: async () => (await import('./compact.js')).compact,
  },
  {
    name: 'compare',
    summary: 'tell whether two images have the same content',
    load: async () => (await import('./compare.js')).compare,
  },
  {
    name: 'completion',
    summary: 'print what makes a shell complete verbs, options and formats',
    load: async () => (await import('./completion.js')).completion,
  },
  {
    name: 'convert',
    summary: 'copy an image into another format, a device or a pipe',
    load: async () => convert,
  },
  {
    name: 'create',
    summary: 'make a new image',
    load: async () => (await import('./create.js')).create,
  },
  {
    name: 'dd',
    summary: 'copy blocks of an image into a new one',
    load: async () => (await import('./dd.js')).dd,
  },
  {
    name: 'diff',
    summary: 'tell in which ranges two disks differ, or make an overlay of them',
    load: async () => (await import('./diff.js')).diff,
  },
  {
    name: 'doctor',
    summary: 'tell what a file is, whether it is safe, and what it refers to',
    load: async () => (await import('./doctor.js')).doctor,
  },
  {
    name: 'formats',
    summary: 'list formats, and where their plugins come from',
    load: async () => (await import('./formats.js')).formats,
  },
  {
    name: 'info',
    summary: 'tell what an image is',
    load: async () => info,
  },
  {
    name: 'lvm',
    summary: 'list and change LVM volumes on disks',
    load: async () => (await import('./lvm.js')).lvm,
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
    name: 'plugins',
    summary: 'list plugins: where each came from, and why one cannot be used',
    load: async () => (await import('./plugins.js')).plugins,
  },
  {
    name: 'rebase',
    summary: 'give an image another backing file',
    load: async () => (await import('./rebase.js')).rebase,
  },
  {
    name: 'resize',
    summary: 'change the size of the disk in an image',
    load: async () => (await import('./resize.js')).resize,
  },
  {
    name: 'snapshot',
    summary: 'list, take, apply and delete internal snapshots',
    load: async () => (await import('./snapshot.js')).snapshot,
  },
  {
    name: '__complete',
    summary: 'what the scripts of completion ask',
    hidden: true,
    load: async () => (await import('./complete.js')).complete,
  },
  {
    name: '__reference',
    summary: 'all help texts as one page',
    hidden: true,
    load: async () => (await import('./reference.js')).reference,
  },
]
