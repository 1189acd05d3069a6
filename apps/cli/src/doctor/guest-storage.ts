import { type BlockDevice, type Storage, storageFrom } from '@img/core'

/** The bytes that the guest sees, as those of a file. Closing it leaves the disk open. */
export function guestStorage(disk: BlockDevice, label: string): Storage {
  return storageFrom({
    label,
    size: disk.size,
    async read(offset, length, options) {
      const bytes = new Uint8Array(length)
      await disk.read(offset, bytes, options)
      return bytes
    },
  })
}
