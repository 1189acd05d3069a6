import { type FixtureCollection, fixturesOf } from '@tooling/test-disks/fixtures'

const collection: FixtureCollection = fixturesOf('vmdk', new URL('../fixtures/', import.meta.url))
export const { fixtures, fixtureBytes, hasFixture, hasAllFixtures } = collection
