import { defineFormat, type Format } from '@img/core'
import { createOptions } from './create-options.js'
import { openOptions } from './options.js'
import { looksLikeTar, rawName } from './tar-header.js'

const open: Format['open'] = async (storage, context) => {
  const { openOva } = await import('./open.js')
  return openOva(storage, context)
}

/** Names of files that an archive of a virtual machine begins with, whatever the order. */
const memberNames = /\.(ovf|mf|cert|vmdk|vhdx?|vdi|qcow2?|nvram)(\.gz)?$/i

/**
 * Archives of virtual machines: a descriptor, disks, a manifest. Specification: DMTF DSP0243, "Open Virtualization Format
 * Specification", 1.0 to 2.1.
 */
export const ova: Format = defineFormat({
  apiVersion: 1,
  name: 'ova',
  title: 'Open Virtualization Format archive',
  extensions: ['.ova'],
  magic: [{ offset: 257, hex: '7573746172' }],
  probe: {
    head: 512,
    matches: ({ head, label }) =>
      looksLikeTar(head) && (/\.ova$/i.test(label) || memberNames.test(rawName(head))),
  },
  openOptions,
  open,
  createOptions,
  async readStream(input, options) {
    const { readOvaStream } = await import('./read-stream.js')
    return readOvaStream(input, options)
  },
  async pack(target, disks, options, context) {
    const { packOva } = await import('./pack.js')
    return packOva(target, disks, options, context)
  },
})

/** The same as files in a folder, opened by the descriptor. */
export const ovf: Format = defineFormat({
  apiVersion: 1,
  name: 'ovf',
  title: 'Open Virtualization Format folder',
  extensions: ['.ovf'],
  magic: [
    { offset: 0, hex: '3c' },
    { offset: 0, hex: 'efbbbf3c' },
    { offset: 0, hex: 'fffe3c00' },
    { offset: 0, hex: 'feff003c' },
  ],
  probe: { head: 65536, matches: ({ head, label }) => isDescriptor(head, label) },
  openOptions,
  open,
})

/** XML whose first element is an envelope; any XML, by its name. Never throws. */
function isDescriptor(head: Uint8Array, label: string): boolean {
  const text = new TextDecoder('latin1').decode(head.filter((byte) => byte !== 0))
  let rest = text.replace(/^(\u00ef\u00bb\u00bf|\u00ff\u00fe|\u00fe\u00ff)/, '').trimStart()
  if (!rest.startsWith('<')) return false
  if (/\.ovf$/i.test(label)) return true
  for (;;) {
    const end = rest.startsWith('<?') ? '?>' : rest.startsWith('<!--') ? '-->' : undefined
    if (end === undefined) return /^<([\w.-]+:)?Envelope[\s>]/.test(rest)
    const at = rest.indexOf(end)
    if (at < 0) return false
    rest = rest.slice(at + end.length).trimStart()
  }
}
