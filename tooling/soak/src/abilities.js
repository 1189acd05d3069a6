import { ImageError } from '@img/core'
import { caseOf } from './cases.js'
import { create } from './create.js'
import { Subject } from './subject.js'

/**
 * What the tools on this machine can do with images: QEMU may be built without encryption.
 * @returns {Promise<{ encryption: boolean }>}
 */
export async function abilities() {
  const plain = { ...caseOf(1, 0), backing: 'none', data: 'inside', start: 'empty', encryption: 'luks' }
  const subject = new Subject({ ...plain, maker: 'qemu', size: 1048576 })
  try {
    await create(subject)
    await subject.open()
    return { encryption: true }
  } catch (error) {
    if (ImageError.is(error) && error.code !== 'IMG_UNSUPPORTED') throw error
    return { encryption: false }
  } finally {
    await subject.close()
    subject.remove()
  }
}
