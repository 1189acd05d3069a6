/**
 * What makes new images. Loaded as one, like `changing.ts` and `encryption.ts`: every place that loads a part of its own
 * would cut the package into smaller files, and each costs as much at start-up as 20 KB of code.
 */
export { createQcow2 } from './create.js'
export { measureQcow2 } from './measure.js'
export { streamQcow2 } from './stream.js'
