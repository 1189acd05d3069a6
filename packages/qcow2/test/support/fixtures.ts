import { type FixtureCollection, fixturesOf } from '@tooling/test-disks/fixtures'

const collection: FixtureCollection = fixturesOf('qcow2', new URL('../fixtures/', import.meta.url))
export const { fixtures, fixtureBytes, hasFixture, hasAllFixtures } = collection
