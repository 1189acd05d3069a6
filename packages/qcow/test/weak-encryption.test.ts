import { createImage } from '@img/core'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { expect, it } from 'vitest'
import { qcow } from '../src/format.js'

it('warns, with a code, of encryption that no longer protects', async () => {
  const codes: unknown[] = []
  await createImage(qcow, new MemoryStorage(), {
    size: 1024,
    options: { encryption: true, 'encrypt.key-secret': 's' },
    secret: async () => new TextEncoder().encode('pass'),
    onWarning: (_message, code) => codes.push(code),
  })
  expect(codes).toEqual(['WARN_WEAK_ENCRYPTION'])
})
