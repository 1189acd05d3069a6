import { constants } from 'node:os'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { isInterrupted, isUnsupported, systemError } from '../src/native/errno.js'
import { loadLibC } from '../src/native/index.js'
import { nativeHost } from './support/host.js'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetModules()
})

describe('binding', () => {
  it.skipIf(!nativeHost)('binds every function on Linux (skipped on other hosts and without koffi)', () => {
    const libc = loadLibC()
    const names = [
      'errno',
      'aio',
      'fadvise',
      'lseek',
      'fallocate',
      'copyFileRange',
      'copyFileRangeLater',
      'ioctl',
      'ioctlInt',
      'fcntl',
    ]
    expect(Object.keys(libc ?? {})).toEqual(names)
    for (const [name, value] of Object.entries(libc ?? {})) expect(typeof value, name).toBe('function')
    expect(loadLibC()).toBe(libc)
  })

  it('is off where the caller says so', () => {
    expect(loadLibC({ native: false })).toBeUndefined()
  })

  it('is off with IMG_NO_NATIVE=1', async () => {
    vi.stubEnv('IMG_NO_NATIVE', '1')
    vi.resetModules()
    const fresh = await import('../src/native/index.js')
    expect(fresh.loadLibC()).toBeUndefined()
  })

  it.skipIf(!nativeHost)(
    'is on with IMG_NO_NATIVE=0 (skipped on other hosts and without koffi)',
    async () => {
      vi.stubEnv('IMG_NO_NATIVE', '0')
      vi.resetModules()
      const fresh = await import('../src/native/index.js')
      expect(fresh.loadLibC()).toBeDefined()
    },
  )
})

describe('errors', () => {
  it('look like those of node:fs', () => {
    const error = systemError(constants.errno.ENOSPC, 'fallocate')
    expect(error).toMatchObject({ code: 'ENOSPC', errno: -constants.errno.ENOSPC, syscall: 'fallocate' })
    expect(error.message).toBe('ENOSPC: no space left on device, fallocate')
    expect(systemError(9999, 'ioctl')).toMatchObject({ code: 'UNKNOWN' })
  })

  it('tell what another way may do from what is wrong', () => {
    for (const name of ['EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'EXDEV', 'ENOTTY'] as const) {
      expect(isUnsupported(constants.errno[name]), name).toBe(true)
    }
    for (const name of ['ENOSPC', 'EIO', 'EBADF', 'EFBIG'] as const) {
      expect(isUnsupported(constants.errno[name]), name).toBe(false)
    }
    expect(isInterrupted(constants.errno.EINTR)).toBe(true)
  })
})
