import { defineLibrary } from '@tooling/tsup'

export default defineLibrary({ base: ['src/format.ts', 'src/open.ts'] })
