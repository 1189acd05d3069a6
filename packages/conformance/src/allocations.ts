import { ConformanceError } from './fault.js'

const watched = [
  'ArrayBuffer',
  'Uint8Array',
  'Uint8ClampedArray',
  'Int8Array',
  'Uint16Array',
  'Int16Array',
  'Uint32Array',
  'Int32Array',
  'Float32Array',
  'Float64Array',
  'BigUint64Array',
  'BigInt64Array',
  'Array',
] as const

type Constructor = new (...args: unknown[]) => object
type Globals = Record<string, Constructor>

/**
 * Runs an action and reports the first array it makes of more than `limit` bytes (or items, for plain arrays): such a
 * length comes from the image and was not checked. The array is not made. Stands in for the constructors meanwhile.
 */
export async function watchingAllocations<T>(limit: number, action: () => Promise<T>): Promise<T> {
  const globals = globalThis as unknown as Globals
  const faults: ConformanceError[] = []
  const refuse = (what: string): never => {
    const fault = new ConformanceError(`it allocates ${what} at once; the budget is ${limit}`)
    faults.push(fault)
    throw fault
  }
  const before = new Map(watched.map((name) => [name, globals[name] as Constructor]))
  for (const [name, type] of before) globals[name] = watchedType(name, type, limit, refuse)
  let result: T
  try {
    result = await action()
  } finally {
    for (const [name, type] of before) globals[name] = type
  }
  if (faults[0]) throw faults[0]
  return result
}

function watchedType(
  name: string,
  type: Constructor,
  limit: number,
  refuse: (what: string) => never,
): Constructor {
  const { BYTES_PER_ELEMENT: each = 1 } = type as { BYTES_PER_ELEMENT?: number }
  const unit = name === 'Array' ? 'items' : 'bytes'
  const checkLength = (length: unknown): void => {
    if (typeof length === 'number' && length * each > limit) refuse(`${length * each} ${unit} (${name})`)
  }
  return new Proxy(type, {
    construct(target, args, self) {
      if (args.length === 1 || name === 'ArrayBuffer') checkLength(args[0])
      return Reflect.construct(target, args, self)
    },
    apply(target, self, args) {
      checkLength(args[0])
      return Reflect.apply(target as unknown as (...all: unknown[]) => object, self, args)
    },
    get(target, key, self) {
      const value: unknown = Reflect.get(target, key, self)
      if (key !== 'from' || typeof value !== 'function') return value
      return (items: { readonly length?: unknown }, ...rest: unknown[]) => {
        checkLength(items?.length)
        return value.call(target, items, ...rest)
      }
    },
  })
}
