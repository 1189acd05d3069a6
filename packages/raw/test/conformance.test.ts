import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { raw } from '../src/format.js'

formatConformance({ describe, it }, { format: raw })
