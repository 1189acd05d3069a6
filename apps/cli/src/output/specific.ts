import { entriesInOrder, type Json } from './json.js'

type Fields = { readonly [key: string]: Json | undefined }

/** Entries of an object as they were put in, undefined ones left out. */
export function entriesAsGiven(object: Fields): [string, Json][] {
  return Object.entries(object).filter((entry): entry is [string, Json] => entry[1] !== undefined)
}

/**
 * Nested data as qemu-img prints "Format specific information": four spaces a level, dashes as spaces, lists numbered.
 * `entries`: the fields of an object in their order.
 */
export function dumpSpecific(
  value: Json,
  level = 1,
  entries: (object: Fields) => [string, Json][] = entriesInOrder,
): string {
  const indent = ' '.repeat(level * 4)
  const items: [string, Json][] = Array.isArray(value)
    ? value.map((item: Json, i): [string, Json] => [`[${i}]`, item])
    : entries(value as Fields).map(([key, item]) => [key.replaceAll('-', ' '), item])
  return items
    .map(([name, item]) =>
      typeof item === 'object' && item !== null
        ? `${indent}${name}:\n${dumpSpecific(item, level + 1, entries)}`
        : `${indent}${name}: ${String(item)}\n`,
    )
    .join('')
}
