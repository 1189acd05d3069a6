import { childOf, childrenOf, type XmlElement } from './xml.js'

/** Names of resource types. CIM_ResourceAllocationSettingData, ResourceType. */
const resources: Readonly<Record<string, string>> = {
  1: 'other',
  2: 'computer system',
  3: 'processor',
  4: 'memory',
  5: 'IDE controller',
  6: 'SCSI controller',
  7: 'FC HBA',
  8: 'iSCSI HBA',
  9: 'IB HCA',
  10: 'ethernet adapter',
  11: 'other network adapter',
  12: 'I/O slot',
  13: 'I/O device',
  14: 'floppy drive',
  15: 'CD drive',
  16: 'DVD drive',
  17: 'disk drive',
  18: 'tape drive',
  19: 'storage extent',
  20: 'other storage device',
  21: 'serial port',
  22: 'parallel port',
  23: 'USB controller',
  24: 'graphics controller',
  25: 'IEEE 1394 controller',
  26: 'partitionable unit',
  27: 'base partitionable unit',
  28: 'power',
  29: 'cooling capacity',
  30: 'ethernet switch port',
  31: 'logical disk',
  32: 'storage volume',
  33: 'ethernet connection',
  35: 'sound card',
}

const numbers = new Set(['ResourceType', 'VirtualQuantity', 'Reservation', 'Limit', 'Weight'])

type Facts = Readonly<Record<string, unknown>>

/**
 * The virtual machines that a descriptor describes, with their hardware, as plain data under the descriptor's own names in
 * kebab-case. DSP0243, 8 "Virtual hardware description".
 */
export function virtualSystems(root: XmlElement): readonly Facts[] {
  const systems: Facts[] = []
  const visit = (element: XmlElement): void => {
    for (const child of element.children) {
      if (child.name === 'VirtualSystem') systems.push(systemOf(child))
      else if (child.name === 'VirtualSystemCollection') visit(child)
    }
  }
  visit(root)
  return systems
}

/** The networks that a descriptor names. DSP0243, 9.2 "NetworkSection". */
export function networks(root: XmlElement): readonly Facts[] {
  return childrenOf(root, 'NetworkSection')
    .flatMap((section) => childrenOf(section, 'Network'))
    .map((network) =>
      facts([
        ['name', network.attributes.get('name')],
        ['description', childOf(network, 'Description')?.text],
      ]),
    )
}

/** The configurations between which hardware can choose. DSP0243, 9.8 "DeploymentOptionSection". */
export function configurations(root: XmlElement): readonly Facts[] {
  return childrenOf(childOf(root, 'DeploymentOptionSection'), 'Configuration').map((each) =>
    facts([
      ['id', each.attributes.get('id')],
      ['default', isTrue(each.attributes.get('default')) ? true : undefined],
      ['label', childOf(each, 'Label')?.text],
      ['description', childOf(each, 'Description')?.text],
    ]),
  )
}

function systemOf(system: XmlElement): Facts {
  const hardware = childOf(system, 'VirtualHardwareSection')
  const os = childOf(system, 'OperatingSystemSection')
  const product = childOf(system, 'ProductSection')
  const items =
    hardware?.children.filter(({ name }) => /^(Item|StorageItem|EthernetPortItem)$/.test(name)) ?? []
  return facts([
    ['id', system.attributes.get('id')],
    ['name', childOf(system, 'Name')?.text],
    ['operating-system', os && operatingSystem(os)],
    ['product', product && plain(product, new Set(['Info', 'Category', 'Property', 'Icon']))],
    ['annotation', childOf(childOf(system, 'AnnotationSection'), 'Annotation')?.text],
    ['transport', hardware?.attributes.get('transport')],
    ['system', plain(childOf(hardware, 'System'))],
    ['hardware', items.map(itemOf)],
    ['configuration', config(hardware)],
  ])
}

function operatingSystem(section: XmlElement): Facts {
  return facts([
    ['id', numeric(section.attributes.get('id'))],
    ['version', section.attributes.get('version')],
    // VMware's and VirtualBox's own names of it.
    ['type', section.attributes.get('osType') ?? childOf(section, 'OSType')?.text],
    ['description', childOf(section, 'Description')?.text],
  ])
}

function itemOf(item: XmlElement): Facts {
  const type = childOf(item, 'ResourceType')?.text ?? ''
  return facts([
    ['resource', Object.hasOwn(resources, type) ? resources[type] : undefined],
    ...Object.entries(plain(item) ?? {}),
    ['for-configuration', item.attributes.get('configuration')],
    ['bound', item.attributes.get('bound')],
    ['required', item.attributes.get('required') === 'false' ? false : undefined],
    ['configuration', config(item)],
  ])
}

/** Children that hold nothing but text, as data; several of one name are a list. */
function plain(element: XmlElement | undefined, without: ReadonlySet<string> = new Set()): Facts | undefined {
  if (element === undefined) return undefined
  const values = new Map<string, unknown[]>()
  for (const { name, text, children } of element.children) {
    if (children.length > 0 || text === '' || without.has(name)) continue
    const list = values.get(name) ?? []
    list.push(typedValue(name, text))
    values.set(name, list)
  }
  return facts([...values].map(([name, list]) => [kebab(name), list.length === 1 ? list[0] : list]))
}

/** Settings of VMware: `vmw:Config`, keys with values. */
function config(element: XmlElement | undefined): Facts | undefined {
  const pairs = childrenOf(element, 'Config').flatMap(({ attributes }): [string, unknown][] => {
    const key = attributes.get('key')
    return key === undefined ? [] : [[key, attributes.get('value') ?? '']]
  })
  return pairs.length === 0 ? undefined : facts(pairs)
}

function typedValue(name: string, text: string): unknown {
  if (name === 'AutomaticAllocation') return isTrue(text)
  return numbers.has(name) ? numeric(text) : text
}

function numeric(text: string | undefined): number | string | undefined {
  const value = text !== undefined && /^\d+$/.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(value) ? value : text
}

function isTrue(text: string | undefined): boolean {
  return text === 'true' || text === '1'
}

function kebab(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1-$2')
    .toLowerCase()
}

/** Data of what is known. Names come from the image: made as own properties, whatever they are. */
function facts(pairs: readonly (readonly [string, unknown])[]): Facts {
  return Object.fromEntries(pairs.filter(([, value]) => value !== undefined))
}
