import { memoryStorage } from '@img/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../src/digest.js'
import { nobleHasher } from '../src/digest-noble.js'
import { type Digest, type DigestName, parseManifest, serialiseManifest } from '../src/manifest.js'
import { noise, sha, utf8 } from './support/build.js'

const hex = { SHA1: 40, SHA256: 64, SHA384: 96, SHA512: 128 } as const
const digit = fc.constantFrom(...'0123456789abcdef')
const algorithm = fc.constantFrom<DigestName>('SHA1', 'SHA256', 'SHA384', 'SHA512')
const digest = algorithm.chain((name) =>
  fc.array(digit, { minLength: hex[name], maxLength: hex[name] }).map((digits) => ({
    algorithm: name,
    hex: digits.join(''),
  })),
)
const file = fc
  .stringMatching(/^[a-zA-Z0-9 ()=_.-]{1,40}$/)
  .filter((name) => name === name.trim() && !/^(\.\.?|\.\/.*)$/.test(name))
const blank = fc.stringMatching(/^[ \t]{0,2}$/)

describe('a manifest', () => {
  it('is understood as it is written here', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(file, digest), { selector: ([name]) => name }), (entries) => {
        const map = new Map<string, Digest>(entries)
        expect(parseManifest(serialiseManifest(map), 'x')).toEqual(map)
      }),
    )
  })

  it('is understood in every spelling', () => {
    const spelling = fc.record({
      gaps: fc.tuple(blank, blank, blank, blank, blank),
      upper: fc.boolean(),
      lower: fc.boolean(),
      dash: fc.boolean(),
      end: fc.constantFrom('\n', '\r\n', '\r', '\n\n'),
    })
    const lines = fc.uniqueArray(fc.tuple(file, digest, spelling), {
      selector: ([name]) => name,
      minLength: 1,
    })
    fc.assert(
      fc.property(lines, fc.boolean(), fc.boolean(), (entries, cut, mark) => {
        const text = entries.map(
          ([name, { algorithm: kind, hex: value }, { gaps, upper, lower, dash, end }]) => {
            const word = dash ? kind.replace('SHA', 'SHA-') : kind
            const [a, b, c, d, e] = gaps
            const digits = upper ? value.toUpperCase() : value
            return `${a}${lower ? word.toLowerCase() : word}${b}(${name})${c}=${d}${digits}${e}${end}`
          },
        )
        const whole = `${mark ? '\ufeff' : ''}${text.join('')}`
        const found = parseManifest(utf8(cut ? whole.trimEnd() : whole), 'x')
        expect([...found]).toEqual(entries.map(([name, value]) => [name, value]))
      }),
    )
  })

  it.each([
    ['words', 'this is no manifest'],
    ['half a line', 'SHA1(a'],
    ['a digest that is too short', `SHA256(a)= ${'0'.repeat(63)}`],
    ['a digest that is too long', `SHA1(a)= ${'0'.repeat(41)}`],
    ['letters that are no digits', `SHA1(a)= ${'g'.repeat(40)}`],
    ['no digest', 'SHA1(a)='],
    ['two digests of one file', `SHA1(a)= ${'0'.repeat(40)}\nSHA1(a)= ${'1'.repeat(40)}`],
    ['the output of sha256sum', `${'0'.repeat(64)}  a`],
  ])('is refused with %s', (_, text) => {
    expect(() => parseManifest(utf8(text), 'x')).toThrow(expect.objectContaining({ code: 'IMG_CORRUPT' }))
  })

  it('is refused with other digests, and with names outside', () => {
    const bad = (text: string, code: string): void =>
      expect(() => parseManifest(utf8(text), 'x')).toThrow(expect.objectContaining({ code }))
    bad(`MD5(a)= ${'0'.repeat(32)}`, 'IMG_UNSUPPORTED')
    bad(`SHA1(../a)= ${'0'.repeat(40)}`, 'IMG_REFERENCE_DENIED')
    bad(`SHA1(/a)= ${'0'.repeat(40)}`, 'IMG_REFERENCE_DENIED')
  })

  it('may say the same twice, and be empty', () => {
    const line = `SHA1(./a)= ${'0'.repeat(40)}\n`
    expect(parseManifest(utf8(line + line), 'x').size).toBe(1)
    expect(parseManifest(utf8('\n'), 'x').size).toBe(0)
  })
})

describe('digests', () => {
  const bytes = noise(3 * 1024 * 1024 + 17)

  it.each(['SHA1', 'SHA256', 'SHA384', 'SHA512'] as const)(
    '%s is the same in Node and in JavaScript',
    async (name) => {
      const wanted = sha(bytes, name)
      expect(await digestOf(memoryStorage(bytes, { readOnly: true }), name)).toBe(wanted)
      const hasher = nobleHasher(name)
      hasher.update(bytes.subarray(0, 1000))
      hasher.update(bytes.subarray(1000))
      expect(hasher.digest()).toBe(wanted)
    },
  )

  it('stop when they are no longer wanted', async () => {
    const controller = new AbortController()
    const onProgress = (): void => controller.abort(new Error('enough'))
    const storage = memoryStorage(bytes, { readOnly: true })
    await expect(digestOf(storage, 'SHA1', { signal: controller.signal, onProgress })).rejects.toThrow(
      'enough',
    )
  })
})
