import { defaultRegistry } from '@img/core'
import { expect, it } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import { tinyFormat } from '../src/index.js'

it('registers the format when imported', () => {
  expect(defaultRegistry.get('tiny')).toBe(tinyFormat)
})

it('says in package.json what the format says: img reads it there, without importing', () => {
  const { name, extensions, magic } = tinyFormat
  expect(manifest.img).toEqual({ apiVersion: 1, formats: [{ name, extensions, magic }] })
  expect(manifest.keywords).toContain('img-format')
})
