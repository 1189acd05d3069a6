import { disksOf } from '@tooling/test-disks/disks'
import { qcow } from '../../src/format.js'

export const { registry, open, empty } = disksOf(qcow)
