import { corrupt, ovaError } from './errors.js'
import { checkFileName } from './file-name.js'

/** Digests that manifests are made of. */
export type DigestName = 'SHA1' | 'SHA256' | 'SHA384' | 'SHA512'

/** The digest that a file has to have. */
export interface Digest {
  readonly algorithm: DigestName
  /** Lower-case hexadecimal digits. */
  readonly hex: string
}

const digits: Readonly<Record<DigestName, number>> = { SHA1: 40, SHA256: 64, SHA384: 96, SHA512: 128 }

/**
 * Parses a manifest: lines of `SHA256(name)= digest`, in the spellings of all tools: blanks anywhere between, digits and
 * names of digests in either case, `SHA-256`, any line ends, the last one missing, a byte order mark. DSP0243, 6.2.
 * @throws {ImageError} IMG_CORRUPT for any other line, or two that contradict each other; IMG_UNSUPPORTED for another digest.
 */
export function parseManifest(bytes: Uint8Array, source: string): ReadonlyMap<string, Digest> {
  const found = new Map<string, Digest>()
  const lines = new TextDecoder().decode(bytes).split(/\r\n|\n|\r/)
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '') continue
    const match = /^\s*([A-Za-z0-9-]+)\s*\((.+)\)\s*=\s*([0-9A-Fa-f]+)\s*$/.exec(line)
    if (match === null) throw corrupt(`line ${index + 1} of the manifest cannot be understood`, source)
    const [, word = '', name = '', hex = ''] = match
    const algorithm = word.toUpperCase().replace('-', '')
    if (!isDigestName(algorithm)) {
      throw ovaError('IMG_UNSUPPORTED', `the manifest has digests of the kind ${word}`, source)
    }
    if (hex.length !== digits[algorithm]) {
      throw corrupt(`line ${index + 1} of the manifest: ${hex.length} digits are no ${algorithm}`, source)
    }
    const file = checkFileName(name.trim(), source)
    const digest: Digest = { algorithm, hex: hex.toLowerCase() }
    const other = found.get(file)
    if (other !== undefined && (other.algorithm !== algorithm || other.hex !== digest.hex)) {
      throw corrupt(`the manifest tells two digests of ${JSON.stringify(file)}`, source)
    }
    found.set(file, digest)
  }
  return found
}

function isDigestName(word: string): word is DigestName {
  return Object.hasOwn(digits, word)
}

/** A manifest as ESXi, vCenter, Workstation and VirtualBox all accept it: no blank but after the equals sign. */
export function serialiseManifest(digests: ReadonlyMap<string, Digest>): Uint8Array {
  const lines = [...digests].map(([name, { algorithm, hex }]) => `${algorithm}(${name})= ${hex}\n`)
  return new TextEncoder().encode(lines.join(''))
}
