import type { Probe } from '@img/core'
import { isToy } from '../toy/file.js'
import { type Broken, withFormat } from './support.js'

function withProbe(change: Partial<Probe>): Broken['format'] {
  return withFormat({ probe: { head: 8, matches: ({ head }) => isToy(head), ...change } })
}

const magic = 'TOYIMG\u0000\u0001'

/** Faults of recognising files. */
export const probe: readonly Broken[] = [
  {
    what: 'throws on a file shorter than its header',
    format: withProbe({
      matches: ({ head }) => {
        const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
        return view.getUint32(0) === 0x544f5949 && view.getUint32(4) === 0x4d470001
      },
    }),
    fault: /matches\(\) threw RangeError/,
  },
  {
    what: 'wants two megabytes to look at',
    format: withProbe({ head: 2 * 1024 * 1024 }),
    fault: /head is 2097152 bytes; at most 1 MiB may be read/,
  },
  {
    what: 'claims every file',
    format: withProbe({ matches: () => true }),
    fault: /an empty file is claimed, which is not of this format/,
  },
  {
    what: 'claims files of others that begin alike',
    format: withProbe({ matches: ({ head }) => head[0] === 0x54 || head[0] === 0x51 }),
    fault: /an image of format qcow2? is claimed/,
  },
  {
    what: 'goes by the name of the file',
    format: withProbe({
      matches: ({ head, label }) => !label.endsWith('.bin') && new TextDecoder().decode(head) === magic,
    }),
    fault: /is not recognised under another file name/,
  },
  {
    what: 'does not recognise its own images',
    format: withProbe({ matches: ({ head }) => new TextDecoder().decode(head) === 'TOYIMG\u0000\u0002' }),
    fault: /an image made with default options is not recognised/,
  },
  {
    what: 'looks beyond the bytes that it is given',
    format: withProbe({
      matches: ({ head }) =>
        new TextDecoder().decode(head) === magic &&
        new Uint8Array(head.buffer)[head.byteOffset + head.length + 10] !== 0xa5,
    }),
    fault: /bytes beyond those given change the answer/,
  },
  {
    what: 'answers something other than true or false',
    format: withProbe({
      matches: (({ head }) =>
        head.length > 4 ? head[0] === 0x54 && head[7] === 1 : undefined) as Probe['matches'],
    }),
    fault: /matches\(\) answered undefined/,
  },
]
