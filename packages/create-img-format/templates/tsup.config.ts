import { defineConfig } from 'tsup'

export default defineConfig({
  entry: ['src/index.ts', 'src/format.ts'],
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  // One setting that tsup itself makes is deprecated in TypeScript 6.
  dts: { compilerOptions: { ignoreDeprecations: '6.0' } },
  sourcemap: true,
  clean: true,
})
