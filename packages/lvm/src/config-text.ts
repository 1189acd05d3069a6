import { lvmError } from './errors.js'
import { MAX_TEXT_DEPTH, MAX_TEXT_ITEMS } from './limits.js'

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

/** Blank space and comments, then one token: punctuation, a string, or a word (name or number). */
const token = /(?:\s|#[^\n]*(?![^\n]))*(?:([{}=[\],])|"((?:[^"\\]|\\.)*)"|([^\s{}=[\],"#]+))/y

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
        const section: OpenSection = { values: new Map(), sections: new Map() }
        here.sections.set(next.word, section)
        open.push(section)
      } else if (after?.mark === '=') here.values.set(next.word, this.#value())
      else this.#fail(`neither a value nor a section follows ${JSON.stringify(next.word)}`)
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

  #next(): Token | undefined {
    token.lastIndex = this.#at
    const match = token.exec(this.#text)
    if (match === null) {
      if (/^(?:\s|#[^\n]*(?![^\n]))*$/.test(this.#text.slice(this.#at))) return undefined
      this.#fail('it cannot be read')
    }
    this.#at = token.lastIndex
    return { mark: match[1], string: match[2], word: match[3] }
  }

  #fail(what: string): never {
    const line = this.#text.slice(0, this.#at).split('\n').length
    throw lvmError('IMG_CORRUPT', `metadata text, line ${line}: ${what}`, this.#source)
  }
}

interface Token {
  readonly mark: string | undefined
  readonly string: string | undefined
  readonly word: string | undefined
}
