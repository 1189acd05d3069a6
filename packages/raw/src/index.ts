export { name } from './format.js'
