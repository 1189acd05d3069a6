// Bounds on what an image may ask for, checked before anything is allocated. Where the specification sets none, they
// are QEMU's (block/qcow2.h), so that what is accepted here is what QEMU accepts.

const mebibyte = 1024 * 1024

/** Smallest cluster: 512 bytes. Specification: Header, cluster_bits. */
export const MIN_CLUSTER_BITS = 9
/** Largest cluster: 2 MiB. QEMU's limit, named in the specification. */
export const MAX_CLUSTER_BITS = 21
/** Bytes of an L1 table, active or of a snapshot. */
export const MAX_L1_BYTES: number = 32 * mebibyte
/** Bytes of the refcount table. */
export const MAX_REFCOUNT_TABLE_BYTES: number = 8 * mebibyte
/** Entries of the snapshot table. */
export const MAX_SNAPSHOTS = 65536
/** Bytes of the snapshot table. */
export const MAX_SNAPSHOT_TABLE_BYTES: number = 1024 * MAX_SNAPSHOTS
/** Bytes of extra data in a snapshot table entry. */
export const MAX_SNAPSHOT_EXTRA_BYTES = 1024
/** Persistent bitmaps. */
export const MAX_BITMAPS = 65535
/** Bytes of the bitmap directory. */
export const MAX_BITMAP_DIRECTORY_BYTES: number = 1024 * MAX_BITMAPS
/** Bytes of a bitmap's name. */
export const MAX_BITMAP_NAME_BYTES = 1023
/** Bytes of a bitmap's data. */
export const MAX_BITMAP_BYTES: number = 512 * mebibyte
/** Bytes of the backing file name. Specification: Header, backing_file_size. */
export const MAX_BACKING_NAME_BYTES = 1023
/** Bytes of the backing format name: QEMU's buffer holds 15 and a terminator. */
export const MAX_BACKING_FORMAT_BYTES = 15
/** Refcounts are at most 2^6 = 64 bits wide. Specification: Header, refcount_order. */
export const MAX_REFCOUNT_ORDER = 6
/** Subclusters in a cluster. Specification: Extended L2 Entries. */
export const SUBCLUSTERS = 32
/** Smallest cluster with extended L2 entries: its subclusters are 512 bytes. Specification: Header, cluster_bits. */
export const MIN_EXTENDED_L2_CLUSTER_BITS = 14
/** Guest sectors: the virtual size is a multiple of this. */
export const SECTOR = 512
