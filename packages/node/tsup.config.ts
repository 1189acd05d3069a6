import { defineLibrary } from '@tooling/tsup'

export default defineLibrary({
  platform: 'node',
  entry: { worker: 'src/worker.ts', 'write-thread': 'src/write-thread.ts' },
})
