/** What changes, checks and repairs images in place: see `making.ts`. */
export { checkImage } from './check.js'
export { RepairDriver } from './check-driver.js'
export { salvageImage } from './salvage.js'
export { openWritable } from './write-driver.js'
