import { definePackageTests } from './index.js'

export default definePackageTests()
