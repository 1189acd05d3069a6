/** The word most like one that is not known, where one is like it. */
export function nearest(name: string, words: Iterable<string>): string | undefined {
  if (name === '') return undefined
  let best: { readonly word: string; readonly far: number } | undefined
  for (const word of words) {
    const far = word.startsWith(name) ? 0 : distance(word, name)
    // Of a short word no two letters may differ: anything is like it then.
    if (far <= Math.min(2, Math.floor(name.length / 2)) && (best === undefined || far < best.far)) {
      best = { word, far }
    }
  }
  return best?.word
}

/** Letters to change, add, drop or swap with the next to make one word of the other. */
function distance(a: string, b: string): number {
  let before: readonly number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const swap = swapped ? (before[j - 2] ?? 0) + 1 : change
      next.push(Math.min(change, swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}
