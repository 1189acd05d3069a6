import { type Fixture, type FixtureCollection, fixturesOf, thirdParty } from '@tooling/test-disks/fixtures'

/** An entry of a manifest of packages. */
export interface PackageFixture extends Fixture {
  readonly members?: readonly { readonly name: string; readonly size: number }[]
  readonly disks?: readonly {
    readonly member: string
    readonly virtualSize: number
    readonly sha256: string
  }[]
}

const own = new URL('../fixtures/', import.meta.url)
const archives: FixtureCollection = fixturesOf('ova', own)
const folders: FixtureCollection = fixturesOf('ovf', own)
export const { fixtureBytes, hasFixture, hasAllFixtures } = archives
export const archiveFixtures: readonly PackageFixture[] = archives.fixtures
export const folderFixtures: readonly PackageFixture[] = folders.fixtures
export const foreign: FixtureCollection | undefined = thirdParty('ovf')
