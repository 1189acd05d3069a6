/** Where closing failed after something else had: that, since it came first, and was mostly the reason. */
export function firstOf(error: unknown): unknown {
  let first = error
  // By name: what stands in for the class before Node 24 is none.
  while (first instanceof Error && first.name === 'SuppressedError' && 'suppressed' in first) {
    first = first.suppressed
  }
  return first
}
