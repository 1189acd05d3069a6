/** Bytes of a sector, in which the metadata counts, whatever the disk's own is. */
export const SECTOR = 512

/** A label is in one of the first sectors. Source: lvm2 lib/label/label.h, LABEL_SCAN_SECTORS. */
export const LABEL_SECTORS = 4

/** Areas that a physical volume's header lists at most; lvm2 writes two. */
export const MAX_AREAS = 4

/** Bytes of metadata text at most: some ten thousand volumes. */
export const MAX_TEXT_BYTES: number = 32 * 1024 * 1024

/** Sections within sections in metadata text; lvm2 writes five. */
export const MAX_TEXT_DEPTH = 16

/** Values in metadata text at most; a section counts as several. */
export const MAX_TEXT_ITEMS = 600_000

/** Values that take as much memory as an empty section. */
export const SECTION_ITEMS = 4

/** Characters of a text between quotes at most: the longest is the command that lvm2 recorded. */
export const MAX_STRING = 1_048_576

/** Volumes stacked on volumes at most (a thin volume over a pool over raid over linear ones is four). */
export const MAX_STACK = 16
