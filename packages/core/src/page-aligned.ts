/** Bytes of a WebAssembly page. */
const pageBytes = 65536

/** Shorter than this, copying costs next to nothing wherever the memory starts. */
const fewestBytes = 128 * 1024

/**
 * Makes a buffer of zeros for reading into and writing from, that starts at a memory page where the host can give that.
 * An ordinary large array starts 16 bytes after one (behind the header of the C library's allocator), and there processors
 * copy to and from the kernel at half their speed. `shared`: other threads can see it.
 */
export function pageAligned(
  length: number,
  { shared = false }: { readonly shared?: boolean } = {},
): Uint8Array {
  if (length >= fewestBytes && typeof WebAssembly === 'object') {
    const pages = Math.ceil(length / pageBytes)
    try {
      const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared })
      return new Uint8Array(buffer, 0, length)
    } catch {
      // A host that limits address space: the memory comes with guard pages of several GiB.
    }
  }
  return shared ? new Uint8Array(new SharedArrayBuffer(length)) : new Uint8Array(length)
}
