import { officialFormats } from '@img/core'
import type { Plugin, PluginOrigin } from './load.js'

/** Where plugins come from, for people. */
export const origins: Readonly<Record<PluginOrigin, string>> = {
  option: '--plugin',
  environment: 'IMG_PLUGINS',
  project: 'project',
  command: 'with img',
}

/** Why a plugin could not be used. */
export function failureReason(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure)
}

/** Packages of official formats that none of these plugins has. */
export function packagesNotInstalled(plugins: readonly Plugin[]): string[] {
  const there = new Set(plugins.flatMap(({ formats }) => formats.map(({ name }) => name)))
  return [...new Set(officialFormats.filter(({ name }) => !there.has(name)).map((format) => format.package))]
}
