import { viewOf, writeU64BE } from '@img/core'

/** An image as QEMU on i386 wrote it: the bitmap at 1048. Every third sector is held, and holds its number. */
export function image32(
  sectors: number,
  backing = '',
): { readonly file: Uint8Array; readonly content: Uint8Array } {
  const bitmap = Math.ceil(sectors / 8)
  const data = Math.ceil((1048 + bitmap) / 512) * 512
  const file = new Uint8Array(data + sectors * 512)
  const content = new Uint8Array(sectors * 512)
  const view = viewOf(file)
  view.setUint32(0, 0x4f4f4f4d)
  view.setUint32(4, 2)
  file.set(new TextEncoder().encode(backing), 8)
  view.setInt32(1032, 1_000_000_000)
  writeU64BE(view, 1036, sectors * 512)
  view.setUint32(1044, 512)
  for (let sector = 0; sector < sectors; sector += 3) {
    file[1048 + Math.floor(sector / 8)] = (file[1048 + Math.floor(sector / 8)] as number) + 2 ** (sector % 8)
    file.fill(1 + (sector % 255), data + sector * 512, data + (sector + 1) * 512)
    content.fill(1 + (sector % 255), sector * 512, (sector + 1) * 512)
  }
  return { file, content }
}
