/** Plain data as it is printed. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json | undefined }

const buckets = 512

/**
 * Place of a key in QEMU's dictionaries, which are printed in the order of their hash table: 512 buckets by a string hash
 * (32 bits, multiplied by 1103515243, seeded with 0x238F13AF times the length; characters shifted by 0, 5, 10, 15, 20 bits).
 */
function bucketOf(key: string): number {
  const bytes = new TextEncoder().encode(key)
  let value = Math.imul(0x238f13af, bytes.length)
  bytes.forEach((byte, i) => {
    value = (value + (byte << ((i * 5) % 24))) >>> 0
  })
  return ((Math.imul(1103515243, value) + 12345) >>> 0) % buckets
}

/** Entries of an object in the order in which qemu-img prints them, undefined ones left out. */
export function entriesInOrder(object: { readonly [key: string]: Json | undefined }): [string, Json][] {
  const entries = Object.entries(object).filter((entry): entry is [string, Json] => entry[1] !== undefined)
  return entries.sort(([a], [b]) => bucketOf(a) - bucketOf(b))
}

/** JSON as qemu-img writes it: four spaces a level, its order of keys, ASCII only. */
export function qemuJson(value: Json, indent = ''): string {
  if (typeof value === 'string') return quote(value)
  if (typeof value !== 'object' || value === null) return String(value)
  const inner = `${indent}    `
  const parts = Array.isArray(value)
    ? value.map((item: Json) => inner + qemuJson(item, inner))
    : entriesInOrder(value as { readonly [key: string]: Json | undefined }).map(
        ([key, item]) => `${inner}${quote(key)}: ${qemuJson(item, inner)}`,
      )
  const [open, close] = Array.isArray(value) ? '[]' : '{}'
  return `${open}\n${parts.map((part, i) => `${part}${i < parts.length - 1 ? ',' : ''}\n`).join('')}${indent}${close}`
}

/** The same in one line. */
export function qemuJsonLine(value: Json): string {
  if (typeof value !== 'object' || value === null) return qemuJson(value)
  if (Array.isArray(value)) return `[${value.map((item: Json) => qemuJsonLine(item)).join(', ')}]`
  const entries = entriesInOrder(value as { readonly [key: string]: Json | undefined })
  return `{${entries.map(([key, item]) => `${quote(key)}: ${qemuJsonLine(item)}`).join(', ')}}`
}

function quote(text: string): string {
  // QEMU escapes all but printable ASCII, a character beyond the BMP as its two surrogates; hexadecimal in capitals.
  return JSON.stringify(text).replace(/\\u([\da-f]{4})|\\.|[\u007f-\uffff]/g, (found, hex?: string) => {
    if (hex !== undefined) return `\\u${hex.toUpperCase()}`
    return found.startsWith('\\')
      ? found
      : `\\u${found.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`
  })
}
