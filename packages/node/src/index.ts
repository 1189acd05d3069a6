/**
 * Disk images on Node.js: files and block devices as storages, atomic targets, the gate for references, worker threads.
 * @packageDocumentation
 */
export { createTarget, type Target } from './atomic-target.js'
export { type ErrorContext, toImageError } from './errors.js'
export { type FileHandle, fileHandle, fileHandleOf } from './file-handle.js'
export type { FileStorage } from './file-storage.js'
export { type FileSink, forwardSink, openForwardSink } from './forward-sink.js'
export { type ConvertFileOptions, convertFile, type OpenFileOptions, openFile } from './image-files.js'
export { nodeMover } from './mover.js'
export {
  blockDeviceSize,
  type CopyRangeResult,
  cloneFile,
  cloneRange,
  copyRange,
  discardRange,
  type FileExtent,
  fileExtentAt,
  fileExtents,
  type ImageLock,
  ImageLockError,
  isBlockDevice,
  isReadOnlyDevice,
  type LockMode,
  type LockOptions,
  type LockPermission,
  lockImage,
  logicalBlockSize,
  type NativeOptions,
  nextData,
  nextHole,
  type PreallocateMode,
  type PreallocateOptions,
  preallocate,
  preallocateSync,
  punchHole,
  type SeekResult,
  type SystemError,
  type ZeroMethod,
  type ZeroRangeOptions,
  zeroRange,
} from './native/index.js'
export { type FileStorageOptions, openFileStorage, openFileStorageSync } from './open-file.js'
export { removePendingFiles } from './pending-files.js'
export { parseReferenceName, protocolOf, type ReferenceName } from './reference-name.js'
export { type NodeReferenceOptions, nodeReferences } from './references.js'
export { holdsAny } from './search-files.js'
export { inspectTarget, type TargetPath } from './target-path.js'
export {
  createWorkerPool,
  sharedMemory,
  type WorkerJobOptions,
  type WorkerPool,
  type WorkerPoolOptions,
} from './worker-pool.js'
