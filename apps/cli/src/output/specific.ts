import { entriesInOrder, type Json } from './json.js'

/** Nested data as qemu-img prints "Format specific information": four spaces a level, dashes as spaces, lists numbered. */
export function dumpSpecific(value: Json, level = 1): string {
  const indent = ' '.repeat(level * 4)
  const items: [string, Json][] = Array.isArray(value)
    ? value.map((item: Json, i): [string, Json] => [`[${i}]`, item])
    : entriesInOrder(value as { readonly [key: string]: Json | undefined }).map(([key, item]) => [
        key.replaceAll('-', ' '),
        item,
      ])
  return items
    .map(([name, item]) =>
      typeof item === 'object' && item !== null
        ? `${indent}${name}:\n${dumpSpecific(item, level + 1)}`
        : `${indent}${name}: ${String(item)}\n`,
    )
    .join('')
}
