import type { NewMachine } from './create-options.js'
import { newHardware } from './new-hardware.js'
import { guestSystems } from './profiles.js'

/** A disk of a package that is made. */
export interface NewDisk {
  /** Name of its file. */
  readonly file: string
  /** Bytes of the file. */
  readonly size: number
  /** Bytes of the disk. */
  readonly capacity: number
  /** Bytes of it that hold data. */
  readonly populated: number
}

const spaces: Readonly<Record<string, string>> = {
  '': 'http://schemas.dmtf.org/ovf/envelope/1',
  ovf: 'http://schemas.dmtf.org/ovf/envelope/1',
  rasd: 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData',
  vssd: 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData',
  vmw: 'http://www.vmware.com/schema/ovf',
  vbox: 'http://www.virtualbox.org/ovf/machine',
}

const streamOptimized = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized'

/** Id of a disk by its number from 1. */
export function diskId(number: number): string {
  return `vmdisk${number}`
}

/**
 * The descriptor of a machine with its disks: OVF 1.1, which every product takes. The same machine and disks give the same
 * text; only digits of file sizes make it longer.
 * @throws {ImageError} IMG_BAD_OPTION for more disks than the controllers take.
 */
export function newDescriptor(machine: NewMachine, disks: readonly NewDisk[]): string {
  const ids = disks.map((_, index) => diskId(index + 1))
  const virtualBox = machine.profile === 'virtualbox'
  const used = virtualBox ? ['', 'ovf', 'rasd', 'vssd', 'vbox'] : ['', 'ovf', 'rasd', 'vssd', 'vmw']
  const declared = used.map((prefix) => `xmlns${prefix && ':'}${prefix}="${spaces[prefix]}"`)
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<Envelope ovf:version="1.0" xml:lang="en-US" ${declared.join(' ')}>`,
    '  <References>',
    ...disks.map(
      ({ file, size }, index) =>
        `    <File ovf:href="${file}" ovf:id="file${index + 1}" ovf:size="${size}"/>`,
    ),
    '  </References>',
    '  <DiskSection>',
    '    <Info>Virtual disk information</Info>',
    ...disks.map(
      ({ capacity, populated }, index) =>
        `    <Disk ovf:capacity="${capacity}" ovf:diskId="${ids[index]}" ovf:fileRef="file${index + 1}" ` +
        `ovf:format="${streamOptimized}" ovf:populatedSize="${populated}"/>`,
    ),
    '  </DiskSection>',
    ...networkSection(machine),
    `  <VirtualSystem ovf:id="${escaped(systemId(machine.name))}">`,
    '    <Info>A virtual machine</Info>',
    `    <Name>${escaped(machine.name)}</Name>`,
    ...operatingSystem(machine, virtualBox),
    '    <VirtualHardwareSection>',
    '      <Info>Virtual hardware requirements</Info>',
    '      <System>',
    '        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>',
    '        <vssd:InstanceID>0</vssd:InstanceID>',
    `        <vssd:VirtualSystemIdentifier>${escaped(machine.name)}</vssd:VirtualSystemIdentifier>`,
    `        <vssd:VirtualSystemType>${escaped(machine.hardware)}</vssd:VirtualSystemType>`,
    '      </System>',
    ...newHardware(machine, ids).flatMap(item),
    ...(virtualBox
      ? []
      : [`      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="${machine.firmware}"/>`]),
    '    </VirtualHardwareSection>',
    ...annotation(machine),
    '  </VirtualSystem>',
    '</Envelope>',
    '',
  ]
  return lines.join('\n')
}

/** Elements stand in the order of the schema, which is the alphabet's. */
function item(elements: Readonly<Record<string, string | number>>): string[] {
  const names = Object.keys(elements).sort()
  const inner = names.map((name) => `        <rasd:${name}>${escaped(String(elements[name]))}</rasd:${name}>`)
  return ['      <Item>', ...inner, '      </Item>']
}

function networkSection({ nic, network }: NewMachine): string[] {
  if (nic === undefined) return []
  const name = escaped(network)
  return [
    '  <NetworkSection>',
    '    <Info>The list of logical networks</Info>',
    `    <Network ovf:name="${name}">`,
    `      <Description>The ${name} network</Description>`,
    '    </Network>',
    '  </NetworkSection>',
  ]
}

function operatingSystem({ os }: NewMachine, virtualBox: boolean): string[] {
  const system = guestSystems[os]
  const info = '      <Info>The kind of installed guest operating system</Info>'
  if (!virtualBox) {
    const type = `vmw:osType="${system.vmware}"`
    return [
      `    <OperatingSystemSection ovf:id="${system.id}" ${type}>`,
      info,
      '    </OperatingSystemSection>',
    ]
  }
  return [
    `    <OperatingSystemSection ovf:id="${system.id}">`,
    info,
    `      <Description>${system.virtualBox}</Description>`,
    `      <vbox:OSType ovf:required="false">${system.virtualBox}</vbox:OSType>`,
    '    </OperatingSystemSection>',
  ]
}

function annotation({ annotation: text }: NewMachine): string[] {
  if (text === undefined) return []
  return [
    '    <AnnotationSection>',
    '      <Info>A description of the machine</Info>',
    `      <Annotation>${escaped(text)}</Annotation>`,
    '    </AnnotationSection>',
  ]
}

/** An id for a name: blanks would be several ids to some readers. */
function systemId(name: string): string {
  return name.replace(/\s+/g, '_')
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`)
}
