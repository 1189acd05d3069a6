import { disksOf } from '@tooling/test-disks/disks'
import { cow } from '../../src/format.js'

export const { registry, open, empty } = disksOf(cow)
