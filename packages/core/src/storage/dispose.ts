/**
 * `Symbol.asyncDispose`, defined first where the browser lacks it. Classes name their method by this constant, so that
 * no bundler drops the definition.
 */
export const asyncDispose: typeof Symbol.asyncDispose = defineAsyncDispose()

/** The same for exported classes, whose declarations need `Symbol.asyncDispose` by name: called before they are made. */
export function defineAsyncDispose(): typeof Symbol.asyncDispose {
  const known = Symbol as { asyncDispose?: symbol }
  known.asyncDispose ??= Symbol('Symbol.asyncDispose')
  return known.asyncDispose as typeof Symbol.asyncDispose
}
