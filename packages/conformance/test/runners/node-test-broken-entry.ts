import { describe, it } from 'node:test'
import { formatConformance } from '../../src/index.js'
import { reads } from '../broken/reads.js'
import { toy } from '../toy/format.js'

formatConformance({ describe, it }, { format: reads[0]?.format ?? toy })
