import { lvmError } from './errors.js'
import { MAX_STRING, MAX_TEXT_DEPTH, MAX_TEXT_ITEMS, SECTION_ITEMS } from './limits.js'

/** A value of the metadata text. Numbers beyond 2^53 - 1 do not occur in what lvm2 writes. */
export type ConfigValue = string | number | readonly (string | number)[]

/** A section: its values and the sections in it, by name. */
export interface ConfigSection {
  readonly values: ReadonlyMap<string, ConfigValue>
  readonly sections: ReadonlyMap<string, ConfigSection>
}

interface OpenSection {
  readonly values: Map<string, ConfigValue>
  readonly sections: Map<string, OpenSection>
}

/** Characters by their code. */
const [newline, quote, hash, backslash] = [0x0a, 0x22, 0x23, 0x5c]
const marks = '{}=[],'
/** What ends a name or a number. */
const wordEnd = /[\s{}=[\],"#]/g

/**
 * Parses metadata text: sections in braces, `name = value`, lists in brackets, comments after `#`.
 * Source: lvm2 libdm/libdm-config.c.
 * @throws {ImageError} IMG_CORRUPT with the place in the text.
 */
export function parseConfig(text: string, source: string): ConfigSection {
  return new Parser(text, source).parse()
}

class Parser {
  readonly #text: string
  readonly #source: string
  #at = 0
  #items = 0

  constructor(text: string, source: string) {
    this.#text = text
    this.#source = source
  }

  parse(): ConfigSection {
    const root: OpenSection = { values: new Map(), sections: new Map() }
    const open = [root]
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const here = open[open.length - 1] as OpenSection
      if (next.mark === '}') {
        if (open.length === 1) this.#fail('a brace that closes nothing')
        open.pop()
        continue
      }
      if (next.word === undefined) this.#fail('a name was expected')
      if (++this.#items > MAX_TEXT_ITEMS) this.#fail('it has too many entries')
      const after = this.#next()
      if (after?.mark === '{') {
        if (open.length > MAX_TEXT_DEPTH) this.#fail('its sections are nested too deeply')
        this.#items += SECTION_ITEMS
        const section: OpenSection = { values: new Map(), sections: new Map() }
        here.sections.set(next.word, section)
        open.push(section)
      } else if (after?.mark === '=') here.values.set(next.word, this.#value())
      else this.#fail(`neither a value nor a section follows ${JSON.stringify(next.word.slice(0, 64))}`)
    }
    if (open.length > 1) this.#fail('it ends inside a section')
    return root
  }

  #value(): ConfigValue {
    const first = this.#next()
    if (first?.mark !== '[') return this.#scalar(first)
    const list: (string | number)[] = []
    for (;;) {
      const item = this.#next()
      if (item?.mark === ']') return list
      if (item?.mark === ',') continue
      if (++this.#items > MAX_TEXT_ITEMS) this.#fail('it has too many entries')
      list.push(this.#scalar(item))
    }
  }

  #scalar(item: Token | undefined): string | number {
    if (item?.string !== undefined) return item.string.replace(/\\(.)/g, '$1')
    if (item?.word !== undefined && /^-?\d+(\.\d+)?$/.test(item.word)) return Number(item.word)
    if (item?.word !== undefined && /^@/.test(item.word)) return item.word
    return this.#fail('a value was expected')
  }

  /** Blank space and comments, then one token: punctuation, a string, or a word (name or number). */
  #next(): Token | undefined {
    const text = this.#text
    let at = this.#at
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === hash) {
        const end = text.indexOf('\n', at)
        at = end < 0 ? text.length : end
      } else if (code !== 0x20 && (code < 0x09 || code > 0x0d)) break
    }
    this.#at = at
    const first = text[at]
    if (first === undefined) return undefined
    if (marks.includes(first)) {
      this.#at++
      return { mark: first, string: undefined, word: undefined }
    }
    if (text.charCodeAt(at) === quote) return { mark: undefined, string: this.#string(), word: undefined }
    wordEnd.lastIndex = at + 1
    this.#at = wordEnd.exec(text)?.index ?? text.length
    return { mark: undefined, string: undefined, word: text.slice(at, this.#at) }
  }

  /** What stands between quotes, as it is written. */
  #string(): string {
    const start = this.#at + 1
    for (let at = start; at < this.#text.length && at - start <= MAX_STRING; at++) {
      const code = this.#text.charCodeAt(at)
      if (code === backslash) at++
      else if (code === quote) {
        this.#at = at + 1
        return this.#text.slice(start, at)
      }
    }
    return this.#fail('a text without an end')
  }

  #fail(what: string): never {
    let line = 1
    for (let at = 0; at < this.#at; at++) if (this.#text.charCodeAt(at) === newline) line++
    throw lvmError('IMG_CORRUPT', `metadata text, line ${line}: ${what}`, this.#source)
  }
}

interface Token {
  readonly mark: string | undefined
  readonly string: string | undefined
  readonly word: string | undefined
}
