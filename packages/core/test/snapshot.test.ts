import { describe, expect, it } from 'vitest'
import { findSnapshot } from '../src/snapshot.js'

describe('findSnapshot', () => {
  const snapshots = [
    { id: '1', name: '2' },
    { id: '2', name: 'before' },
    { id: '3', name: 'before' },
  ]

  it('looks for the id first, then for the name', () => {
    expect(findSnapshot(snapshots, '2')).toBe(snapshots[1])
    expect(findSnapshot(snapshots, 'before')).toBe(snapshots[1])
    expect(findSnapshot(snapshots.slice(0, 1), '2')).toBe(snapshots[0])
    expect(findSnapshot(snapshots, 'after')).toBeUndefined()
    expect(findSnapshot([], '1')).toBeUndefined()
  })
})
