import { describe, expect, it } from 'vitest'
import { ImageError } from '../src/errors.js'

describe('ImageError', () => {
  const cause = new Error('beneath')
  const error = new ImageError('IMG_CORRUPT', 'it is damaged', {
    format: 'qcow2',
    source: 'disk.qcow2',
    offset: 0,
    hint: 'copy it again',
    cause,
  })

  it('tells what it was given', () => {
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({
      name: 'ImageError',
      code: 'IMG_CORRUPT',
      format: 'qcow2',
      source: 'disk.qcow2',
      offset: 0,
      hint: 'copy it again',
      cause,
    })
    expect(String(error)).toBe('ImageError: it is damaged')
  })

  it('is plain data as JSON, without what is not known', () => {
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      code: 'IMG_CORRUPT',
      message: 'it is damaged',
      format: 'qcow2',
      source: 'disk.qcow2',
      offset: 0,
      hint: 'copy it again',
    })
    const bare = new ImageError('IMG_IO', 'no')
    expect(bare.toJSON()).toEqual({ code: 'IMG_IO', message: 'no' })
    expect('cause' in bare).toBe(false)
  })

  it('is known by its brand, of another copy of core too', () => {
    expect(ImageError.is(error)).toBe(true)
    expect(ImageError.is(error, 'IMG_CORRUPT')).toBe(true)
    expect(ImageError.is(error, 'IMG_IO')).toBe(false)
    const other = Object.assign(new Error('x'), { code: 'IMG_IO', [Symbol.for('@img/core:error:1')]: true })
    expect(other).not.toBeInstanceOf(ImageError)
    expect(ImageError.is(other, 'IMG_IO')).toBe(true)
    for (const value of [undefined, null, 'IMG_IO', cause, { code: 'IMG_IO' }])
      expect(ImageError.is(value)).toBe(false)
  })
})
