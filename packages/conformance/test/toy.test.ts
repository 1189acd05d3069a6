import { describe, it } from 'vitest'
import { formatConformance } from '../src/index.js'
import { toy } from './toy/format.js'

formatConformance({ describe, it }, { format: toy, options: [{}, { cluster_size: 512, reserve: true }] })
