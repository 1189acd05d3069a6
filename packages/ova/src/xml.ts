import { SaxesParser } from 'saxes'
import { corrupt, ovaError } from './errors.js'
import { MAX_XML_DEPTH, MAX_XML_NODES } from './limits.js'

/** An element of a descriptor. */
export interface XmlElement {
  /** Name without prefix. */
  readonly name: string
  /** Namespace; empty without one. */
  readonly uri: string
  /** Values by names without prefix. */
  readonly attributes: ReadonlyMap<string, string>
  readonly children: readonly XmlElement[]
  /** Its own text, without that of its children, trimmed. */
  readonly text: string
}

interface OpenElement extends XmlElement {
  readonly children: XmlElement[]
  text: string
}

/**
 * Parses a descriptor. A document type is refused, so that there are no entities but XML's own five.
 * @throws {ImageError} IMG_CORRUPT for text that is no well-formed XML, IMG_UNSUPPORTED for a document type.
 */
export function parseXml(bytes: Uint8Array, source: string): XmlElement {
  const parser = new SaxesParser({ xmlns: true })
  const stack: OpenElement[] = []
  let root: XmlElement | undefined
  let nodes = 0
  const text = (value: string): void => {
    const element = stack[stack.length - 1]
    if (element !== undefined) element.text += value
  }
  parser.on('error', (error) => {
    throw corrupt(`the descriptor is no XML: ${error.message}`, source)
  })
  parser.on('doctype', () => {
    throw ovaError('IMG_UNSUPPORTED', 'the descriptor has a document type, and could define entities', source)
  })
  parser.on('text', text)
  parser.on('cdata', text)
  parser.on('opentag', ({ local, uri, attributes }) => {
    const list = Object.values(attributes)
    nodes += 1 + list.length
    if (nodes > MAX_XML_NODES || stack.length >= MAX_XML_DEPTH)
      throw corrupt('the descriptor has too many elements', source)
    const values = new Map<string, string>()
    // Names are told apart by their last part: one of the standard's own stands before any other.
    const own = list.filter((attribute) => attribute.uri === '' || attribute.uri.includes('/ovf/envelope'))
    for (const { prefix, local: name, value } of [...list, ...own]) {
      if (prefix !== 'xmlns') values.set(name, value)
    }
    const element: OpenElement = { name: local, uri, attributes: values, children: [], text: '' }
    stack[stack.length - 1]?.children.push(element)
    stack.push(element)
  })
  parser.on('closetag', () => {
    const element = stack.pop() as OpenElement
    element.text = element.text.trim()
    if (stack.length === 0) root = element
  })
  parser.write(decode(bytes, source)).close()
  if (root === undefined) throw corrupt('the descriptor is empty', source)
  return root
}

/** UTF-8, or UTF-16 with its byte order mark. */
function decode(bytes: Uint8Array, source: string): string {
  const mark = `${bytes[0]},${bytes[1]}`
  const encoding = mark === '255,254' ? 'utf-16le' : mark === '254,255' ? 'utf-16be' : 'utf-8'
  let text: string
  try {
    text = new TextDecoder(encoding, { fatal: true }).decode(bytes)
  } catch {
    throw corrupt(`the descriptor is no ${encoding} text`, source)
  }
  const declared = /^\s*<\?xml[^>]*\sencoding\s*=\s*["']([^"']*)["']/.exec(text)?.[1]
  if (declared !== undefined && !/^(utf-?(8|16)(le|be)?|us-ascii|ascii)$/i.test(declared)) {
    throw ovaError('IMG_UNSUPPORTED', `the descriptor is encoded in ${declared}`, source)
  }
  return text
}

/** The children with that name, whatever their namespace unless one is given. */
export function childrenOf(
  element: XmlElement | undefined,
  name: string,
  uri?: string,
): readonly XmlElement[] {
  const same = (child: XmlElement): boolean => child.name === name && (uri === undefined || child.uri === uri)
  return element?.children.filter(same) ?? []
}

/** The first child with that name. */
export function childOf(element: XmlElement | undefined, name: string): XmlElement | undefined {
  return element?.children.find((child) => child.name === name)
}
