/** Bytes by which a thing is known. Offsets are from the start, or from the end where negative. */
export interface Signature {
  readonly name: string
  readonly at: number
  readonly hex: string
  /** What to do with a file of this kind. */
  readonly hint?: string
}

const unpack = (tool: string): string => `unpack it first: ${tool}`
const asRaw = 'it is read as a raw disk with -f raw'

/**
 * Things that are no image of a format with an official plugin, but that people meet instead: other products' disks, packed
 * files, a web page where the download failed. Sources: the formats' own specifications; file(1) of the same names.
 */
export const foreignSignatures: readonly Signature[] = [
  { name: 'vhdx', at: 0, hex: '7668647866696c65' },
  { name: 'vhd (Virtual PC)', at: 0, hex: '636f6e6563746978' },
  { name: 'vhd (Virtual PC)', at: -512, hex: '636f6e6563746978' },
  { name: 'qed (QEMU)', at: 0, hex: '51454400' },
  { name: 'parallels', at: 0, hex: '576974686f7574467265655370616365' },
  { name: 'parallels', at: 0, hex: '576974686f757446726565537061634578' },
  { name: 'parallels', at: 0, hex: '57697468467265655370616365' },
  { name: 'bochs', at: 0, hex: '426f63687320566972747561' },
  { name: 'cloop', at: 0, hex: '23212f62696e2f73680a2356322e3020466f726d6174' },
  { name: 'dmg (Apple)', at: -512, hex: '6b6f6c7900000004' },
  { name: 'ewf (EnCase)', at: 0, hex: '455646090d0aff00' },
  { name: 'wim (Windows)', at: 0, hex: '4d5357494d000000' },
  { name: 'gzip', at: 0, hex: '1f8b08', hint: unpack('gunzip') },
  { name: 'xz', at: 0, hex: 'fd377a585a00', hint: unpack('unxz') },
  { name: 'zstd', at: 0, hex: '28b52ffd', hint: unpack('unzstd') },
  { name: 'bzip2', at: 0, hex: '425a68', hint: unpack('bunzip2') },
  { name: 'lz4', at: 0, hex: '04224d18', hint: unpack('unlz4') },
  { name: '7-Zip', at: 0, hex: '377abcaf271c', hint: unpack('7z x') },
  { name: 'ZIP', at: 0, hex: '504b0304', hint: unpack('unzip') },
  { name: 'RAR', at: 0, hex: '526172211a07', hint: unpack('unrar x') },
  { name: 'web page', at: 0, hex: '3c21444f4354595045', hint: 'the download failed: fetch it again' },
  { name: 'web page', at: 0, hex: '3c21646f6374797065', hint: 'the download failed: fetch it again' },
  { name: 'web page', at: 0, hex: '3c68746d6c', hint: 'the download failed: fetch it again' },
  {
    name: 'Git LFS pointer',
    at: 0,
    hex: '76657273696f6e2068747470733a2f2f6769742d6c6673',
    hint: 'fetch the file itself: git lfs pull',
  },
]

/** File systems and what else may stand at the start of a disk or a partition. Sources: the Linux kernel's and lvm2's headers. */
export const contentSignatures: readonly Signature[] = [
  { name: 'LUKS', at: 0, hex: '4c554b53babe' },
  { name: 'BitLocker', at: 3, hex: '2d4656452d46532d' },
  { name: 'XFS', at: 0, hex: '58465342' },
  { name: 'squashfs', at: 0, hex: '68737173' },
  { name: 'NTFS', at: 3, hex: '4e54465320202020' },
  { name: 'exFAT', at: 3, hex: '4558464154202020' },
  { name: 'ReFS', at: 3, hex: '5265465300000000' },
  { name: 'FAT32', at: 82, hex: '4641543332202020' },
  { name: 'FAT16', at: 54, hex: '4641543136202020' },
  { name: 'FAT12', at: 54, hex: '4641543132202020' },
  { name: 'APFS', at: 32, hex: '4e585342' },
  { name: 'HFS+', at: 1024, hex: '482b0004' },
  { name: 'F2FS', at: 1024, hex: '1020f5f2' },
  { name: 'Linux RAID', at: 4096, hex: 'fc4e2ba9' },
  { name: 'swap', at: 4086, hex: '53574150535041434532' },
  { name: 'ISO 9660', at: 32769, hex: '4344303031', hint: asRaw },
  { name: 'Btrfs', at: 65600, hex: '5f42485266535f4d' },
  { name: 'ReiserFS', at: 65588, hex: '526549734572' },
  { name: 'LVM2 physical volume', at: 0, hex: '4c4142454c4f4e45' },
  { name: 'LVM2 physical volume', at: 512, hex: '4c4142454c4f4e45' },
  { name: 'LVM2 physical volume', at: 1024, hex: '4c4142454c4f4e45' },
  { name: 'LVM2 physical volume', at: 1536, hex: '4c4142454c4f4e45' },
]
