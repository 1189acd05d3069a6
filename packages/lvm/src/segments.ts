import type { Stripe } from './extents.js'
import { type EditableSection, section } from './group-editor.js'
import { SECTOR } from './limits.js'

/** Segments on physical volumes, one behind the other. `stripeSize`: bytes. */
export function stripedSegments(
  allocated: readonly Stripe[],
  stripeSize: number | undefined,
  firstExtent = 0,
): EditableSection[] {
  let start = firstExtent
  return allocated.map((runs) => {
    const count = runs.length * (runs[0]?.count ?? 0)
    const made = section({
      start_extent: start,
      extent_count: count,
      type: 'striped',
      stripe_count: runs.length,
      stripe_size: runs.length > 1 && stripeSize !== undefined ? stripeSize / SECTOR : undefined,
      stripes: runs.flatMap((run) => [run.pv, run.start]),
    })
    start += count
    return made
  })
}

/** Puts segments at the end of a volume; one that goes on where the last one ends is made part of it. */
export function appendSegments(volume: EditableSection, added: readonly EditableSection[]): void {
  let count = Number(volume.values.get('segment_count') ?? 0)
  for (const next of added) {
    const last = volume.sections.get(`segment${count}`)
    if (last !== undefined && continues(last, next)) {
      const extents = Number(last.values.get('extent_count')) + Number(next.values.get('extent_count'))
      last.values.set('extent_count', extents)
    } else {
      count++
      volume.sections.set(`segment${count}`, next)
    }
  }
  volume.values.set('segment_count', count)
}

function continues(last: EditableSection, next: EditableSection): boolean {
  const of = (name: string): boolean =>
    (last.values.get(name) ?? undefined) === (next.values.get(name) ?? undefined)
  const a = last.values.get('stripes')
  const b = next.values.get('stripes')
  if (last.values.get('type') !== 'striped' || !of('stripe_count') || !of('stripe_size')) return false
  if (last.values.has('tags') || typeof a !== 'object' || typeof b !== 'object') return false
  const each = Number(last.values.get('extent_count')) / Number(last.values.get('stripe_count'))
  return a.every((item, at) => (at % 2 === 0 ? item === b[at] : Number(item) + each === b[at]))
}

/** Cuts a volume of striped segments down to so many extents. */
export function cutSegments(volume: EditableSection, extents: number): void {
  const count = Number(volume.values.get('segment_count'))
  let kept = 0
  for (let index = 1; index <= count; index++) {
    const name = `segment${index}`
    const { values } = volume.sections.get(name) as EditableSection
    const start = Number(values.get('start_extent'))
    if (start >= extents) volume.sections.delete(name)
    else {
      kept = index
      values.set('extent_count', Math.min(Number(values.get('extent_count')), extents - start))
    }
  }
  volume.values.set('segment_count', kept)
}
