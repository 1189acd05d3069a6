/** All that needs ciphers: see `making.ts`. */
export { amendKeySlots } from './encrypt-amend.js'
export { newEncryption, newHeaderLength } from './encrypt-create.js'
export { openEncryption } from './encrypt-open.js'
