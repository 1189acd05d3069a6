import { describe, it } from 'node:test'
import { formatConformance } from '../../src/index.js'
import { toy } from '../toy/format.js'

formatConformance({ describe, it }, { format: toy })
