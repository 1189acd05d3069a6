import { describe, expect, it } from 'vitest'
import { duration, jsonLine, plainLine } from '../src/progress.js'

const state = {
  progress: { done: 1536 * 1024 * 1024, total: 4096 * 1024 * 1024, unit: 'bytes', phase: 'copy' },
  elapsed: 3.00049,
  rate: 512 * 1024 * 1024,
  left: 5,
  percent: 37.5,
} as const

describe('progress', () => {
  it('for programs', () => {
    expect(JSON.parse(jsonLine(state))).toEqual({
      done: 1610612736,
      total: 4294967296,
      unit: 'bytes',
      phase: 'copy',
      percent: 37.5,
      elapsed: 3,
      rate: 536870912,
      left: 5,
    })
    expect(JSON.parse(jsonLine({ ...state, left: undefined }))).toMatchObject({ left: null })
    expect(jsonLine(state)).not.toContain('\n')
  })

  it('for people', () => {
    expect(plainLine(state)).toBe('    (37.50/100%)  copy  512 MiB/s  5 s left')
    expect(plainLine({ ...state, rate: 0, left: undefined, percent: 0 })).toBe('    (0.00/100%)  copy')
  })

  it('where the end is not known, as of a pipe', () => {
    const open = { ...state, left: undefined, percent: undefined }
    expect(plainLine(open)).toBe('    1.5 GiB  copy  512 MiB/s')
    expect(JSON.parse(jsonLine(open))).toMatchObject({
      done: 1610612736,
      total: null,
      percent: null,
      left: null,
    })
  })

  it.each([
    [0.6, '1 s'],
    [59.4, '59 s'],
    [185, '3 min 5 s'],
    [7800, '2 h 10 min'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text)
  })
})
