import type { ViteUserConfig } from 'vitest/config'

/** The one test configuration of all packages; `overrides` are merged over it. */
export function definePackageTests(overrides?: ViteUserConfig): ViteUserConfig
