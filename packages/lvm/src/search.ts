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
