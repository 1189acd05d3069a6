/**
 * Disk images in JavaScript: block devices, clusters, snapshots, the registry of formats, and jobs such as convert.
 * @packageDocumentation
 */

export { compressHere } from './access/compress-here.js'
export { decompressUnit } from './access/units.js'
export type { AmendContext, AmendOptions } from './amend.js'
export type { AddBitmapOptions, BitmapInfo, BitmapStore, DirtyRange } from './bitmap.js'
export type { BlockDevice, Extent, ExtentOptions, Preallocation, ResizeOptions } from './block.js'
export { ByteQueue } from './byte-queue.js'
export {
  alignDown,
  alignUp,
  checkRange,
  divideUp,
  isPowerOfTwo,
  isPromise,
  type MaybePromise,
  maxOffset,
  readU64BE,
  readU64LE,
  viewOf,
  writeU64BE,
  writeU64LE,
} from './bytes.js'
export type { CheckFinding, CheckOptions, CheckResult } from './check.js'
export type {
  Allocation,
  ClusterMap,
  ClusterRun,
  ClusterZeroOptions,
  CompressedRun,
  DataRun,
  UnallocatedRun,
  ZeroRun,
} from './cluster.js'
export { type Codec, type CodecName, type CompressOptions, codecIfReady, loadCodec } from './codecs/index.js'
export { ImageError, type ImageErrorCode, type ImageErrorDetails } from './errors.js'
export { fillZeros } from './fill-zeros.js'
export {
  type ChangedRange,
  type CompactOptions,
  type Driver,
  defineFormat,
  type Format,
  type FormatInfo,
  type Magic,
  type OpenContext,
  type OptionsOf,
  type Probe,
  type ProbeInput,
  preallocations,
  type Reference,
} from './format.js'
export {
  damagedHint,
  type FormatErrors,
  formatErrors,
  type PlaceError,
  truncatedHint,
} from './format-errors.js'
export { ForwardWriter } from './forward-writer.js'
export type { CompressedWriteOptions, DiskImage, ImageInfo } from './image.js'
export type {
  Compress,
  CompressionSpec,
  CreateContext,
  CreateSpec,
  ImageWriter,
  Measurement,
  MeasureSpec,
  Placement,
} from './image-writer.js'
export { type Batch, batchBytes, batches, batchLength, clip, readsZero } from './jobs/batches.js'
export { type BitmapImage, type CopyBitmapsOptions, copyBitmaps, mergeBitmap } from './jobs/bitmap-copy.js'
export {
  type DirtyReport,
  dirtyReport,
  exportDirty,
} from './jobs/bitmap-export.js'
export { type CommitOptions, type CommitResult, commit } from './jobs/commit.js'
export { type CompareOptions, type CompareResult, compare } from './jobs/compare.js'
export { concatenate } from './jobs/concatenate.js'
export { type ConvertOptions, convert, convertStream } from './jobs/convert.js'
export {
  type CreateOptions,
  createImage,
  createWriter,
  creationHint,
  parseCreateOptions,
} from './jobs/create.js'
export { type DiffExtent, type DiffOptions, diff } from './jobs/diff.js'
export {
  type ExportOptions,
  type ExportRange,
  type ExportResult,
  exportRanges,
} from './jobs/export-ranges.js'
export { type MeasureOptions, measure, measureStream } from './jobs/measure.js'
export { asyncMover, emit, type Piece, type Put, scanStep, splitZeros } from './jobs/mover.js'
export { type PackOptions, packImages } from './jobs/pack.js'
export { dataRanges, type Range, type RangeOptions } from './jobs/ranges.js'
export { type ReadImageStreamOptions, readImageStream } from './jobs/read-stream.js'
export { type RebaseOptions, type RebaseResult, rebase } from './jobs/rebase.js'
export { type StreamOptions, streamImage } from './jobs/stream.js'
export { thin } from './jobs/thin.js'
export type { Allocate, CopyPlan, JobOptions, Mover, Progress } from './jobs/types.js'
export { officialFormats } from './official.js'
export { maxChainDepth, type OpenOptions, openImage } from './open.js'
export {
  type BoolOption,
  type EnumOption,
  type FilesOption,
  type IntOption,
  type OptionSpec,
  type OptionSpecs,
  parseBool,
  parseOptions,
  parseSize,
  type SizeOption,
  type StringOption,
  type ValuesOf,
} from './options.js'
export { pageAligned } from './page-aligned.js'
export { createPartitionTable, type NewTable } from './partitions/create.js'
export { type GrowableDisk, type GrownPartition, growPartition } from './partitions/grow.js'
export { type Partition, type PartitionedDisk, readPartitions } from './partitions.js'
export { matchesMagic, type ProbeOptions, probeFormat } from './probe.js'
export {
  type AddedReference,
  denyReferences,
  describe,
  type OpenedReference,
  type ReferenceResolver,
  referencesFrom,
} from './reference.js'
export {
  createRegistry,
  defaultRegistry,
  type FormatManifest,
  type FormatRegistry,
  type LazyFormat,
  registerFormat,
} from './registry.js'
export { noSecret, type SecretSource } from './secret.js'
export {
  type CreateSnapshotOptions,
  findSnapshot,
  type SnapshotInfo,
  type SnapshotStore,
} from './snapshot.js'
export { type BlobOptions, blobStorage } from './storage/blob.js'
export type { BlockOptions } from './storage/block-storage.js'
export { type StorageSource, storageFrom } from './storage/custom.js'
export { type HttpOptions, httpStorage } from './storage/http.js'
export type { Fetch } from './storage/http-client.js'
export { type MemoryOptions, type MemoryStorage, memoryStorage } from './storage/memory.js'
export type { RetryOptions } from './storage/retry.js'
export { sliceStorage } from './storage/slice.js'
export {
  type ForwardSink,
  type IoOptions,
  isWritable,
  type Storage,
  type StorageExtent,
  type WritableStorage,
  type ZeroOptions,
} from './storage.js'
export type {
  PackContext,
  ReadStreamOptions,
  StreamPiece,
  StreamReader,
  StreamSource,
} from './streaming.js'
export type {
  GrownVolume,
  NewVolume,
  PhysicalVolumeInfo,
  TagChange,
  VolumeAreaInfo,
  VolumeGroupInfo,
  VolumeInfo,
  VolumeSegmentInfo,
  VolumeStore,
} from './volumes.js'
export type { ImageWarningCode, WarningListener } from './warning.js'
export { isZero, zeroBlock, zeroRun } from './zero.js'
