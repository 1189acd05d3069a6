/** For each member that is to be changed, what makes the new one of the old one. */
export type Wraps<T> = { readonly [K in keyof T]?: (original: NonNullable<T[K]>) => T[K] }

/**
 * The same object with some members replaced. Members that are absent stay absent, also where they come and go; methods
 * run on the object itself, so that private fields work.
 */
export function delegate<T extends object>(target: T, wraps: Wraps<T>): T {
  const made = new Map<PropertyKey, { readonly from: unknown; readonly to: unknown }>()
  return new Proxy({} as T, {
    get(_, key) {
      const value: unknown = Reflect.get(target, key)
      if (value === undefined) return undefined
      const known = made.get(key)
      if (known?.from === value) return known.to
      const bound: unknown = typeof value === 'function' ? value.bind(target) : value
      const wrap = (wraps as Record<PropertyKey, ((original: unknown) => unknown) | undefined>)[key]
      const to = wrap ? wrap(bound) : bound
      made.set(key, { from: value, to })
      return to
    },
    has: (_, key) => Reflect.has(target, key),
  })
}
