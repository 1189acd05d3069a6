/** Bytes of a sector, in which the metadata counts, whatever the disk's own is. */
export const SECTOR = 512

/** A label is in one of the first sectors. Source: lvm2 lib/label/label.h, LABEL_SCAN_SECTORS. */
export const LABEL_SECTORS = 4

/** Areas that a physical volume's header lists at most; lvm2 writes two. */
export const MAX_AREAS = 16

/** Bytes of metadata text at most. lvm2 keeps areas far below this. */
export const MAX_TEXT_BYTES: number = 64 * 1024 * 1024

/** Sections within sections in metadata text; lvm2 writes five. */
export const MAX_TEXT_DEPTH = 16

/** Values and sections in metadata text at most. */
export const MAX_TEXT_ITEMS = 2_000_000

/** Volumes stacked on volumes at most (a thin volume over a pool over raid over linear ones is four). */
export const MAX_STACK = 16
