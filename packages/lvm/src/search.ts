/** Index of the first number that is not below `wanted`, in ascending ones; their count where all are. */
export function firstNotBelow(numbers: Float64Array, wanted: number): number {
  let low = 0
  let high = numbers.length
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if ((numbers[middle] as number) < wanted) low = middle + 1
    else high = middle
  }
  return low
}

/** Index of the last number that is not above `wanted`, in ascending ones that differ; -1 where all are. */
export function lastNotAbove(numbers: Float64Array, wanted: number): number {
  const index = firstNotBelow(numbers, wanted)
  return numbers[index] === wanted ? index : index - 1
}

/** Keys that are tried one by one before all keys of a map are looked at. */
const near = 1024

/** The smallest key of a map from `from` up to `end`; `end` where there is none. The range may be far larger than the map. */
export function nextKey(map: ReadonlyMap<number, unknown>, from: number, end: number): number {
  const last = Math.min(end, from + near)
  for (let key = from; key < last; key++) if (map.has(key)) return key
  if (last === end) return end
  let next = end
  for (const key of map.keys()) if (key >= last && key < next) next = key
  return next
}
