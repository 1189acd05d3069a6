import type {
  ClusterMap,
  CreateSpec,
  Driver,
  Format,
  ImageWriter,
  OpenContext,
  Storage,
  WritableStorage,
} from '@img/core'
import type { Runner, Subject } from '../../src/index.js'
import { formatConformance } from '../../src/index.js'
import { toy } from '../toy/format.js'

/** A format with one fault, and what the kit has to say of it. */
export interface Broken {
  /** What is wrong with it. */
  readonly what: string
  readonly format: Format
  /** What the subject has beside the format. */
  readonly subject?: Omit<Subject, 'format'>
  /** How the fault is named by a test of the group. */
  readonly fault: RegExp
}

/** The same object with some members replaced or added. Methods of the rest run on the object itself. */
export function override<T extends object>(target: T, members: { [K in keyof T]?: T[K] | undefined }): T {
  return new Proxy({} as T, {
    get(_, key) {
      if (key in members) return Reflect.get(members, key)
      const value: unknown = Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    },
    has: (_, key) => key in members || key in target,
  })
}

/** The toy format with some of its members changed. */
export function withFormat(members: Partial<Format>, base: Format = toy): Format {
  return override(base, members)
}

/** The toy format with its drivers changed. */
export function withDriver(
  change: (driver: Driver, storage: Storage, context: OpenContext) => Partial<Driver>,
  base: Format = toy,
): Format {
  return withFormat(
    {
      async open(storage, context) {
        const driver = await base.open(storage, context)
        return override(driver, change(driver, storage, context))
      },
    },
    base,
  )
}

/** The toy format with the mapping of its drivers changed. */
export function withMap(
  change: (map: ClusterMap, driver: Driver, storage: Storage) => Partial<ClusterMap>,
  base: Format = toy,
): Format {
  return withDriver(
    (driver, storage) => ({ map: override(driver.map, change(driver.map, driver, storage)) }),
    base,
  )
}

/** The toy format with its writers changed. */
export function withWriter(
  change: (writer: ImageWriter, spec: CreateSpec, target: WritableStorage) => Partial<ImageWriter>,
  base: Format = toy,
): Format {
  return withFormat(
    {
      async create(target, spec, context) {
        const writer = await (base.create as NonNullable<Format['create']>)(target, spec, context)
        return override(writer, change(writer, spec, target))
      },
    },
    base,
  )
}

/** The result of a test. */
export interface Result {
  readonly group: string
  readonly title: string
  readonly error: Error | undefined
}

/** Runs the tests of one group of the kit, or of all. */
export async function runKit(subject: Subject, only?: string): Promise<Result[]> {
  const tests: { readonly group: string; readonly title: string; readonly body: () => Promise<void> }[] = []
  const path: string[] = []
  const runner: Runner = {
    describe(name, body) {
      path.push(name)
      body()
      path.pop()
    },
    it(title, body) {
      tests.push({ group: path.at(-1) ?? '', title, body })
    },
  }
  formatConformance(runner, subject)
  const results: Result[] = []
  for (const { group, title, body } of tests) {
    if (only !== undefined && group !== only) continue
    const error = await body().then(
      () => undefined,
      (reason: Error) => reason,
    )
    results.push({ group, title, error })
  }
  return results
}
