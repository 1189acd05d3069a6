import { accessSync, constants } from 'node:fs'
import { dirname } from 'node:path'
import type { ReferenceResolver, Storage } from '@img/core'
import { toImageError } from '@img/node'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import { statsOf } from '../paths.js'
import { humanSize } from '../sizes.js'
import { DryStorage } from './dry-storage.js'

/** `--dry-run`: everything is done as without it, but to copies of what would change; then it is told of. */
export class DryRun {
  readonly #storages: DryStorage[] = []
  /** Storages that stay for the next who opens them, by the identity of what is beneath; undefined where none do. */
  #kept: Map<string, DryStorage> | undefined
  readonly #json: boolean

  /** @param json it is told of as JSON */
  constructor(json = false) {
    this.#json = json
  }

  /** Stands before a storage that was opened to be read. @throws {ImageError} where the file could not be written. */
  over(storage: Storage, path: string): DryStorage {
    checkWritable(storage.label, path)
    const before = this.again(storage)
    if (before !== undefined) return before
    const made = this.#add(new DryStorage(storage.label, storage, this.#kept !== undefined))
    this.#kept?.set(storage.identity ?? storage.label, made)
    return made
  }

  /** From now on, what is opened again shows what was changed before, until `end`. */
  keep(): void {
    this.#kept ??= new Map()
  }

  /** What stands before a storage that was opened before; the one given is closed then. */
  again(storage: Storage): DryStorage | undefined {
    const kept = this.#kept?.get(storage.identity ?? storage.label)
    if (kept !== undefined) void storage.close()
    return kept
  }

  /** Closes what was kept. */
  async end(): Promise<void> {
    for (const kept of this.#kept?.values() ?? []) await kept.end()
    this.#kept = undefined
  }

  /** Stands for a file that would be made. @throws {ImageError} where it could not be. */
  fresh(path: string): DryStorage {
    checkWritable(path, exists(path) ? path : dirname(path))
    return this.#add(new DryStorage(path))
  }

  /** True where there is a file or device of that name. */
  isThere(path: string): boolean {
    return exists(path)
  }

  /** A gate behind which nothing is changed and nothing made. */
  gate(references: ReferenceResolver): ReferenceResolver {
    const fresh: NonNullable<ReferenceResolver['create']> = async ({ name }) =>
      this.#add(new DryStorage(name))
    return {
      ...references,
      open: async (reference, from, how) => {
        const opened = await references.open(reference, placeOf(from), { ...how, writable: false })
        const before = this.again(opened.storage)
        if (before !== undefined) return { ...opened, storage: before }
        if (!how.writable) return opened
        return { ...opened, storage: this.over(opened.storage, opened.storage.label) }
      },
      ...(references.create && { create: fresh }),
      ...(references.add && {
        add: async (...args) => {
          const storage = (await fresh(...args)) as DryStorage
          return { storage, remove: () => storage.close() }
        },
      }),
    }
  }

  /** Prints what would be done: the lines given, then what it means for each file. */
  print(...lines: readonly string[]): void {
    const files = this.#storages.filter(({ before, changed }) => changed && before !== undefined)
    if (this.#json) printOut(`${qemuJson({ 'dry-run': true, would: lines, files: files.map(fileJson) })}\n`)
    else printOut([...lines, ...files.map(fileLine), 'Nothing was changed (--dry-run).', ''].join('\n'))
  }

  #add(storage: DryStorage): DryStorage {
    this.#storages.push(storage)
    return storage
  }
}

function fileLine({ label, before, size, written }: DryStorage): string {
  const grown = size > (before ?? 0) ? 'grow' : 'shrink'
  const sizes =
    size === before
      ? 'its size would stay'
      : `the file would ${grown} from ${humanSize(before ?? 0)} to ${humanSize(size)}`
  return `${label}: ${humanSize(written)} would be written; ${sizes}.`
}

function fileJson({ label, before = 0, size, written }: DryStorage): Record<string, string | number> {
  return { filename: label, written, 'file-size': before, 'new-file-size': size }
}

/** Where a storage is: only that beneath knows. */
function placeOf(storage: Storage): Storage {
  return storage instanceof DryStorage ? (storage.beneath ?? storage) : storage
}

function exists(path: string): boolean {
  return statsOf(path) !== undefined
}

function checkWritable(label: string, path: string): void {
  if (!exists(path) && label === path) return
  try {
    accessSync(path, constants.W_OK)
  } catch (error) {
    throw toImageError(error, { source: label, action: 'open' })
  }
}
