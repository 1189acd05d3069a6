import { createRequire } from 'node:module'

/** Options of every native operation. */
export interface NativeOptions {
  /**
   * False: do as a host without the native binding does. Default true, unless the environment has
   * `IMG_NO_NATIVE=1`.
   */
  readonly native?: boolean | undefined
}

/**
 * The C library, as far as it is used. Each function returns -1 on failure; `errno` then tells why, and must
 * be asked before anything else is called. A function that this C library does not have is undefined.
 */
export interface LibC {
  errno(): number
  readonly lseek: ((fd: number, offset: number, whence: number) => number) | undefined
  readonly fallocate: ((fd: number, mode: number, offset: number, length: number) => number) | undefined
  readonly copyFileRange:
    | ((
        fdIn: number,
        inOffset: BigInt64Array,
        fdOut: number,
        outOffset: BigInt64Array,
        length: number,
      ) => number)
    | undefined
  /** The same in another thread. It has no `errno`: where it fails, the call is to be made again by the other. */
  readonly copyFileRangeLater:
    | ((
        fdIn: number,
        inOffset: BigInt64Array,
        fdOut: number,
        outOffset: BigInt64Array,
        length: number,
      ) => Promise<number>)
    | undefined
  /** `posix_fadvise`. Bound when first asked for. */
  fadvise(): ((fd: number, offset: number, length: number, advice: number) => number) | undefined
  /** Asynchronous I/O; glibc only, whose control blocks have one layout on both architectures. Bound when first asked for. */
  aio(): AioCalls | undefined
  readonly ioctl: ((fd: number, request: number, argument: Uint8Array) => number) | undefined
  /** `ioctl` whose argument is an int instead of a pointer. */
  readonly ioctlInt: ((fd: number, request: number, argument: number) => number) | undefined
  readonly fcntl: ((fd: number, command: number, argument: Uint8Array) => number) | undefined
}

/** POSIX asynchronous I/O. Control blocks and lists of them are named by their addresses. */
export interface AioCalls {
  /** Where the bytes lie in memory. They must not move as long as the address is used: shared memory does not. */
  address(bytes: Uint8Array): number
  write(block: number): number
  error(block: number): number
  result(block: number): number
  suspend(list: number, count: number, timeout: number): number
}

/** The part of koffi's interface that is used; koffi is optional, so its own types may be missing. */
interface Koffi {
  load(path: null): { func(prototype: string): unknown }
  errno(): number
  address(bytes: Uint8Array): bigint
}

interface NativeFunction {
  (...args: unknown[]): number
  /** The last argument is called with an error or null, and the result. */
  async(...args: unknown[]): void
}

let cached: { readonly libc: LibC | undefined } | undefined

/**
 * Loads koffi and binds the C library, once a process and thread, on the first call that needs it (loading
 * takes 14 to 18 ms). Undefined where koffi is not installed, has no binary for this host or is switched off,
 * and on anything but Linux on x64 and arm64: on macOS and FreeBSD constants and structures differ, and APFS
 * has told of holes where there was data (GNU coreutils pull request 68), so that nothing is tried there.
 */
export function loadLibC(options?: NativeOptions): LibC | undefined {
  if (options?.native === false) return undefined
  cached ??= { libc: bind() }
  return cached.libc
}

/** True where {@link loadLibC} has a chance: a supported host, not switched off. Loads nothing. */
export function mayBind(options?: NativeOptions): boolean {
  if (options?.native === false) return false
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) return false
  const off = process.env.IMG_NO_NATIVE
  return off === undefined || off === '' || off === '0'
}

function bind(): LibC | undefined {
  if (!mayBind()) return undefined
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi
    return bindWith(koffi)
  } catch {
    // Not installed, or no binary for this host: every operation has a fallback.
    return undefined
  }
}

function bindWith(koffi: Koffi): LibC {
  // The running program itself: glibc or musl, whichever Node is linked with.
  const library = koffi.load(null)
  const find = (prototype: string): NativeFunction | undefined => {
    try {
      return library.func(prototype) as NativeFunction
    } catch {
      return undefined
    }
  }
  // C declares the last argument of both as variadic; koffi must know, as some ABIs pass it elsewhere.
  const ioctl = find('int ioctl(int fd, unsigned long request, ...)')
  const fcntl = find('int fcntl(int fd, int command, ...)')
  const copy = find('int64_t copy_file_range(int, void *, int, void *, size_t, unsigned int)')
  const bindAio = (): AioCalls | undefined => {
    const write = find('int aio_write(uint64_t block)')
    const error = find('int aio_error(uint64_t block)')
    const result = find('int64_t aio_return(uint64_t block)')
    const suspend = find('int aio_suspend(uint64_t list, int count, uint64_t timeout)')
    const glibc = find('const char *gnu_get_libc_version()')
    if (!write || !error || !result || !suspend || !glibc) return undefined
    return { address: (bytes) => Number(koffi.address(bytes)), write, error, result, suspend }
  }
  let aio: { readonly calls: AioCalls | undefined } | undefined
  let fadvise: { readonly call: NativeFunction | undefined } | undefined
  return {
    errno: () => koffi.errno(),
    aio: () => {
      aio ??= { calls: bindAio() }
      return aio.calls
    },
    fadvise: () => {
      fadvise ??= { call: find('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)') }
      return fadvise.call
    },
    // off_t has 64 bits on both architectures, with glibc and with musl.
    lseek: find('int64_t lseek(int fd, int64_t offset, int whence)'),
    fallocate: find('int fallocate(int fd, int mode, int64_t offset, int64_t length)'),
    copyFileRange:
      copy &&
      ((fdIn, inOffset, fdOut, outOffset, length) => copy(fdIn, inOffset, fdOut, outOffset, length, 0)),
    copyFileRangeLater:
      copy &&
      ((...range) =>
        new Promise((done) => {
          copy.async(...range, 0, (error: unknown, count: number) => done(error ? -1 : count))
        })),
    ioctl: ioctl && ((fd, request, argument) => ioctl(fd, request, 'void *', argument)),
    ioctlInt: ioctl && ((fd, request, argument) => ioctl(fd, request, 'int', argument)),
    fcntl: fcntl && ((fd, command, argument) => fcntl(fd, command, 'void *', argument)),
  }
}
