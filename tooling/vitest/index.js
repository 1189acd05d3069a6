import { defineConfig, mergeConfig } from 'vitest/config'

/** Workspace packages resolve to their source, so that tests need no build. */
const conditions = ['@img/source', 'module', 'node', 'development|production', 'import', 'default']

export function definePackageTests(overrides = {}) {
  return mergeConfig(
    defineConfig({
      resolve: { conditions },
      ssr: { resolve: { conditions, externalConditions: ['@img/source', 'node', 'import', 'default'] } },
      test: {
        environment: 'node',
        include: ['test/**/*.test.ts'],
        testTimeout: 60_000,
        hookTimeout: 60_000,
        passWithNoTests: true,
        reporters: ['default', 'json'],
        outputFile: { json: 'test-results/vitest.json' },
      },
    }),
    overrides,
  )
}
