export { AioWrites } from './aio.js'
export { type LibC, loadLibC, mayBind, type NativeOptions } from './binding.js'
export { blockDeviceSize, isBlockDevice, isReadOnlyDevice, logicalBlockSize } from './blockdev.js'
export { type CopyRangeResult, cloneFile, cloneRange, copyRange, copyRangeLater } from './copy-range.js'
export type { SystemError } from './errno.js'
export { type FileExtent, fileExtentAt, fileExtents, nextData, nextHole, type SeekResult } from './holes.js'
export {
  type ImageLock,
  ImageLockError,
  type LockMode,
  type LockOptions,
  type LockPermission,
  lockImage,
} from './locks.js'
export {
  type PreallocateMode,
  type PreallocateOptions,
  preallocate,
  preallocateSync,
  reserveAhead,
} from './preallocate.js'
export { discardRange, punchHole, type ZeroMethod, type ZeroRangeOptions, zeroRange } from './punch.js'
export { willNeed } from './will-need.js'
