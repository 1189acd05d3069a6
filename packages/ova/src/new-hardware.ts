import { badOption, type NewMachine } from './create-options.js'

/** One item of virtual hardware: elements of `rasd`. */
export type NewItem = Readonly<Record<string, string | number>>

interface Bus {
  readonly type: number
  readonly title: string
  readonly subType: string | undefined
  /** Controllers at most. */
  readonly controllers: number
  /** Places of a controller that take a disk. */
  readonly places: readonly number[]
}

/** Places 0 to count - 1, but for the controller's own. */
function places(count: number, own?: number): number[] {
  return Array.from({ length: count }, (_, at) => at).filter((at) => at !== own)
}

function busOf({ controller, profile }: NewMachine): Bus {
  const virtualBox = profile === 'virtualbox'
  switch (controller) {
    case 'ide':
      return {
        type: 5,
        title: 'IDE Controller',
        subType: virtualBox ? 'PIIX4' : undefined,
        controllers: 2,
        places: places(2),
      }
    case 'sata':
      return {
        type: 20,
        title: 'SATA Controller',
        subType: virtualBox ? 'AHCI' : 'vmware.sata.ahci',
        controllers: virtualBox ? 1 : 4,
        places: places(30),
      }
    default:
      return {
        type: 6,
        title: 'SCSI Controller',
        subType: controller === 'pvscsi' ? 'VirtualSCSI' : 'lsilogic',
        controllers: virtualBox ? 1 : 4,
        places: places(16, 7),
      }
  }
}

/**
 * The hardware of a machine with its disks. DSP0243, 8.3; CIM_ResourceAllocationSettingData.
 * @throws {ImageError} IMG_BAD_OPTION for more disks than there are places.
 */
export function newHardware(machine: NewMachine, diskIds: readonly string[]): readonly NewItem[] {
  const items: NewItem[] = []
  const add = (elements: NewItem): number => {
    const id = items.length + 1
    items.push({ ...elements, InstanceID: id })
    return id
  }
  const { cpus, memory, nic, network } = machine
  add({
    AllocationUnits: 'hertz * 10^6',
    Description: 'Number of Virtual CPUs',
    ElementName: `${cpus} virtual CPU(s)`,
    ResourceType: 3,
    VirtualQuantity: cpus,
  })
  add({
    AllocationUnits: 'byte * 2^20',
    Description: 'Memory Size',
    ElementName: `${memory} MB of memory`,
    ResourceType: 4,
    VirtualQuantity: memory,
  })
  const bus = busOf(machine)
  const perController = bus.places.length
  if (diskIds.length > bus.controllers * perController) {
    throw badOption(
      `controllers of the kind ${machine.controller} take ${bus.controllers * perController} disks, not ${diskIds.length}`,
      'take controller=lsilogic or controller=sata',
    )
  }
  const controllers = new Map<number, number>()
  for (let index = 0; index * perController < diskIds.length; index++) {
    const subType = bus.subType === undefined ? {} : { ResourceSubType: bus.subType }
    const description = { Address: index, Description: bus.title, ElementName: `${bus.title} ${index}` }
    controllers.set(index, add({ ...description, ...subType, ResourceType: bus.type }))
  }
  for (const [index, id] of diskIds.entries()) {
    const parent = controllers.get(Math.floor(index / perController)) ?? 0
    add({
      AddressOnParent: bus.places[index % perController] ?? 0,
      ElementName: `Hard Disk ${index + 1}`,
      HostResource: machine.profile === 'virtualbox' ? `/disk/${id}` : `ovf:/disk/${id}`,
      Parent: parent,
      ResourceType: 17,
    })
  }
  if (nic !== undefined) {
    add({
      AutomaticAllocation: 'true',
      Connection: network,
      Description: `${nicName(nic)} ethernet adapter on "${network}"`,
      ElementName: 'Ethernet 1',
      ResourceSubType: nicName(nic),
      ResourceType: 10,
    })
  }
  return items
}

function nicName(nic: NonNullable<NewMachine['nic']>): string {
  return { e1000: 'E1000', e1000e: 'E1000e', vmxnet3: 'VmxNet3', pcnet32: 'PCNet32' }[nic]
}
