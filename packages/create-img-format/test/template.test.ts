import { formatConformance } from '@img/conformance'
import { describe, it } from 'vitest'
import { tinyFormat } from '../templates/src/format.js'

formatConformance({ describe, it }, { format: tinyFormat, options: [{ cluster_size: 4096 }, {}] })
