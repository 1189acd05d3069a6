import type { FormatInfo } from '@img/core'
import type { DynamicDisk } from './dynamic-disk.js'
import { uuidText } from './fields.js'
import { dateOf, type Footer } from './footer.js'
import { versionText } from './header.js'

/** What a VHD tells of itself. qemu-img shows nothing of it, so all is under `extra`. `disk`: absent for fixed ones. */
export function describeVhd(footer: Footer, disk: DynamicDisk | undefined): FormatInfo {
  const parent = footer.type === 'differencing' ? disk?.header : undefined
  return {
    ...(disk && { clusterSize: disk.blockSize }),
    extra: {
      subformat: footer.type,
      uuid: uuidText(footer.uuid),
      'creator-app': footer.creatorApp.replaceAll('\0', '').trim(),
      'creator-version': versionText(footer.creatorVersion),
      'creator-host': footer.creatorHost.replaceAll('\0', '').trim(),
      created: dateOf(footer.timestamp),
      'current-size': footer.currentSize,
      geometry: footer.geometry,
      'saved-state': footer.savedState,
      ...(parent && { 'parent-uuid': uuidText(parent.parentUuid), 'parent-name': parent.parentName }),
    },
  }
}
