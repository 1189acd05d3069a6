import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../src/config-text.js'

describe('metadata text', () => {
  it('has sections, values and lists', () => {
    const text = `# a comment
      contents = "Text \\"quoted\\" # no comment"
      version=1 vg { id = "x"\tflags = [] # one
        list = ["pv0", 0,
          "pv1", 5 ] inner { n = -3 } } # the last line, without an end`
    const root = parseConfig(text, 'disk')
    expect(root.values.get('contents')).toBe('Text "quoted" # no comment')
    expect(root.values.get('version')).toBe(1)
    const vg = root.sections.get('vg')
    expect(vg?.values.get('flags')).toEqual([])
    expect(vg?.values.get('list')).toEqual(['pv0', 0, 'pv1', 5])
    expect(vg?.sections.get('inner')?.values.get('n')).toBe(-3)
  })

  it.each([
    'a {',
    '}',
    'a = ',
    'a = [',
    'a = [ { ]',
    '= 1',
    'a b',
    'a = "open',
    `${'a { '.repeat(1000)}${'}'.repeat(1000)}`,
  ])('refuses %j', (text) => {
    expect(() => parseConfig(text, 'disk')).toThrowError(expect.objectContaining({ code: 'IMG_CORRUPT' }))
  })

  it('throws nothing else, whatever it is given', () => {
    const piece = fc.constantFrom('a', ' ', '{', '}', '=', '[', ']', ',', '"', '\\', '#', '\n', '1', '\0')
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        try {
          parseConfig(pieces.join(''), 'disk')
        } catch (error) {
          expect(error).toMatchObject({ name: 'ImageError' })
        }
      }),
    )
  })

  it('has long texts, and long blank space, without an end of the stack', () => {
    expect(parseConfig(`a = 1${' \n'.repeat(5_000_000)}`, 'disk').values.get('a')).toBe(1)
    expect(() => parseConfig(`a = "${'x'.repeat(10_000_000)}"`, 'disk')).toThrow(/a text without an end/)
    expect(parseConfig(`a = "${'\\"'.repeat(1000)}"`, 'disk').values.get('a')).toBe('"'.repeat(1000))
  })
})
