import { defineLibrary } from '@tooling/tsup'

export default defineLibrary({ platform: 'node', entry: { img: 'src/img.ts' }, dts: false })
