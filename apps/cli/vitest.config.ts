import { definePackageTests } from '@tooling/vitest'

export default definePackageTests({ test: { globalSetup: ['test/support/build.ts'] } })
