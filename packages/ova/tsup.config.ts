import { defineLibrary } from '@tooling/tsup'

export default defineLibrary()
