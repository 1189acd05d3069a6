/** What an importer takes. */
export interface Profile {
  /** vssd:VirtualSystemType. */
  readonly hardware: string
  readonly digest: 'sha1' | 'sha256'
  readonly controller: 'sata' | 'lsilogic'
  /** Name of the network that is there by itself. */
  readonly network: string
}

/**
 * The oldest virtual hardware that a version of the product has, so that all its releases take it; digests as the oldest tools
 * around it know them (the clients of ESXi 6.0 and VirtualBox up to 4 know SHA-1 alone).
 */
export const profiles: Readonly<Record<'virtualbox' | 'workstation' | 'esxi6' | 'esxi7' | 'esxi8', Profile>> =
  {
    virtualbox: { hardware: 'virtualbox-2.2', digest: 'sha1', controller: 'sata', network: 'NAT' },
    workstation: { hardware: 'vmx-16', digest: 'sha256', controller: 'lsilogic', network: 'nat' },
    esxi6: { hardware: 'vmx-11', digest: 'sha1', controller: 'lsilogic', network: 'VM Network' },
    esxi7: { hardware: 'vmx-17', digest: 'sha256', controller: 'lsilogic', network: 'VM Network' },
    esxi8: { hardware: 'vmx-20', digest: 'sha256', controller: 'lsilogic', network: 'VM Network' },
  }

/** A guest operating system: number of CIM_OperatingSystem, names of VMware and VirtualBox. */
export interface GuestSystem {
  readonly id: number
  readonly vmware: string
  readonly virtualBox: string
}

/** Guest systems of 64 bits. */
export const guestSystems: Readonly<
  Record<'other' | 'linux' | 'debian' | 'ubuntu' | 'rhel' | 'freebsd' | 'windows', GuestSystem>
> = {
  other: { id: 102, vmware: 'otherGuest64', virtualBox: 'Other_64' },
  linux: { id: 101, vmware: 'otherLinux64Guest', virtualBox: 'Linux_64' },
  debian: { id: 96, vmware: 'debian8_64Guest', virtualBox: 'Debian_64' },
  ubuntu: { id: 94, vmware: 'ubuntu64Guest', virtualBox: 'Ubuntu_64' },
  rhel: { id: 80, vmware: 'rhel7_64Guest', virtualBox: 'RedHat_64' },
  freebsd: { id: 78, vmware: 'freebsd64Guest', virtualBox: 'FreeBSD_64' },
  windows: { id: 102, vmware: 'windows9_64Guest', virtualBox: 'Windows10_64' },
}
