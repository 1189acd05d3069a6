/** One character for each byte, in parts: a call takes so many arguments only. */
export function latin1(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192))
  }
  return text
}

/** The bytes of a text that has one character for each. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0))
}

/** Text in an encoding that the host knows by name; undefined where it is not, or not that of the bytes. */
export function decodeText(bytes: Uint8Array, encoding: string): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}

/** Bytes of a text in an encoding that the host knows by name; undefined where they do not say the same when they are read. */
export function encodeText(text: string, encoding: string): Uint8Array | undefined {
  const bytes = /^utf-?8$/i.test(encoding) ? new TextEncoder().encode(text) : encodeByTable(text, encoding)
  return bytes && decodeText(bytes, encoding) === text ? bytes : undefined
}

/** Hosts only decode what is not UTF-8: characters are looked up among all of one byte and of two. */
function encodeByTable(text: string, encoding: string): Uint8Array | undefined {
  let decoder: TextDecoder
  try {
    decoder = new TextDecoder(encoding)
  } catch {
    return undefined
  }
  const table = new Map<string, readonly number[]>()
  const wanted = new Set(text)
  const note = (...bytes: number[]): boolean => {
    const character = decoder.decode(Uint8Array.from(bytes))
    const single = [...character].length === 1 && character !== '\ufffd'
    if (single && wanted.has(character) && !table.has(character)) table.set(character, bytes)
    return single
  }
  const leads = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !note(byte))
  for (const lead of leads) {
    if (table.size === wanted.size) break
    for (let trail = 0x30; trail < 256; trail++) note(lead, trail)
  }
  const bytes: number[] = []
  for (const character of text) {
    const found = table.get(character)
    if (found === undefined) return undefined
    bytes.push(...found)
  }
  return Uint8Array.from(bytes)
}
