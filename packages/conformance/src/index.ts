/**
 * The test kit for formats of the disk-image toolkit: one call defines all tests, with any test runner.
 * @packageDocumentation
 */

export { formatConformance } from './conformance.js'
export { ConformanceError } from './fault.js'
export type { Runner } from './runner.js'
export type { Budget, FileBytes, Sample, Subject } from './subject.js'
