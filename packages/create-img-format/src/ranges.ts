import { readFileSync } from 'node:fs'

/**
 * Version ranges for what a new plugin needs: the versions that this package was published with. They stand in its own
 * package.json, where packing writes versions in the place of `workspace:` and `catalog:`.
 * @throws {Error} where this package was not packed.
 */
export function publishedRanges(
  manifest: URL = new URL('../package.json', import.meta.url),
): Readonly<Record<string, string>> {
  const { devDependencies } = JSON.parse(readFileSync(manifest, 'utf8')) as {
    readonly devDependencies: Readonly<Record<string, string>>
  }
  return Object.fromEntries(
    Object.entries(devDependencies).map(([name, version]) => {
      if (!/^\d/.test(version))
        throw new Error(`${name} is '${version}': this works from the packed package only, see pnpm scaffold`)
      return [name, `^${version}`]
    }),
  )
}
