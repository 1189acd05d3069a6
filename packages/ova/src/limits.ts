/** Bytes of a descriptor at most. Those of large appliances have some hundred KiB. */
export const MAX_DESCRIPTOR_BYTES: number = 8 * 1024 * 1024
/** Bytes of a manifest at most. */
export const MAX_MANIFEST_BYTES: number = 4 * 1024 * 1024
/** Members of an archive at most. */
export const MAX_MEMBERS = 16384
/** Bytes of an extended header of an archive at most. */
export const MAX_EXTENDED_HEADER_BYTES: number = 64 * 1024
/** Elements of a descriptor at most, attributes counted too. */
export const MAX_XML_NODES = 250_000
/** Elements within each other at most. */
export const MAX_XML_DEPTH = 64
/** Bytes of a file that was compressed whole, without zeros: they are kept in memory. */
export const MAX_INFLATED_BYTES: number = 512 * 1024 * 1024
/** Disks, and files, of a package at most. */
export const MAX_ENTRIES = 4096
