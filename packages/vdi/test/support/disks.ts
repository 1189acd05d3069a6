import { disksOf } from '@tooling/test-disks/disks'
import { vdi } from '../../src/format.js'

export const { registry, open, empty } = disksOf(vdi)
