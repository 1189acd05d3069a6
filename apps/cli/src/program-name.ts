import { basename } from 'node:path'

/** The name that the command was called by: a link named `qemu-img` speaks as that, so that scripts find what they look for. */
export const programName: 'img' | 'qemu-img' =
  basename(process.argv[1] ?? '').replace(/\.(js|exe|cmd)$/, '') === 'qemu-img' ? 'qemu-img' : 'img'
