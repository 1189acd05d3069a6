import { defineLibrary } from '@tooling/tsup'

export default defineLibrary({
  platform: 'node',
  entry: { 'create-img-format': 'src/create-img-format.ts' },
  dts: false,
})
