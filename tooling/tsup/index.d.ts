import type { Options } from 'tsup'

export interface LibraryOptions {
  /** `neutral` for what runs in a browser too (the default), `node` for what uses `node:` modules. */
  platform?: 'neutral' | 'node'
  /** Entry points beside those in package.json's `exports`: output name without extension to source file. */
  entry?: Record<string, string>
  /** Whether to write declarations. Default true. */
  dts?: boolean
  /**
   * Source files that are loaded before anything that is imported lazily, and are bundled into one file therefore. Without
   * side effects. Default: the entry `format` of a format package, else `index`.
   */
  base?: readonly string[]
}

/** The one build configuration of all packages: ESM, declarations, source maps, shared chunks. */
export function defineLibrary(options?: LibraryOptions): Options
