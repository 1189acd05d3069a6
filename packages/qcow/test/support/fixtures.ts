import { type FixtureCollection, fixturesOf } from '@tooling/test-disks/fixtures'

const collection: FixtureCollection = fixturesOf('qcow', new URL('../fixtures/', import.meta.url))
export const { aloneFixtures: fixtures, fixtureBytes, hasFixture } = collection
