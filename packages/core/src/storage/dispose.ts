/**
 * `Symbol.asyncDispose`, defined first where the browser lacks it. Classes name their method by this constant, so that
 * no bundler drops the definition.
 */
export const asyncDispose: typeof Symbol.asyncDispose = define()

function define(): typeof Symbol.asyncDispose {
  const known = Symbol as { asyncDispose?: symbol }
  known.asyncDispose ??= Symbol('Symbol.asyncDispose')
  return known.asyncDispose as typeof Symbol.asyncDispose
}
