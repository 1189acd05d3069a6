import { spawnSync } from 'node:child_process'

const version = spawnSync('qemu-img', ['--version'], { encoding: 'utf8' }).stdout ?? ''

/** True where qemu-img can be run. */
export const hasQemu: boolean = version.startsWith('qemu-img version')

/** True where it is of the line whose output is copied. */
export const hasQemu7: boolean = version.startsWith('qemu-img version 7.2')
