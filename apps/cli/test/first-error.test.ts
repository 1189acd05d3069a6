import { describe, expect, it } from 'vitest'
import { firstOf } from '../src/first-error.js'

const failing = (message: string): AsyncDisposable => ({
  async [Symbol.asyncDispose]() {
    throw new Error(message)
  },
})

describe('an error', () => {
  it('is the first one, where closing failed as well', async () => {
    const thrown = new Error('the image is damaged')
    const work = async (): Promise<void> => {
      await using _outer = failing('the file cannot be closed')
      await using _inner = failing('the image cannot be closed')
      throw thrown
    }
    const error = await work().catch((reason: unknown) => reason)
    expect(error).toMatchObject({ name: 'SuppressedError' })
    expect(firstOf(error)).toBe(thrown)
  })

  it('is itself otherwise', () => {
    const error = new Error('x')
    expect(firstOf(error)).toBe(error)
    expect(firstOf('x')).toBe('x')
  })
})
